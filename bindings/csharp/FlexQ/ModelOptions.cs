using System;
using System.Collections.Generic;
using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>How a model is loaded. Read when it is used, so that it may be changed and used
    /// again; a value that the library does not take makes that call throw.</summary>
    public sealed class ModelOptions
    {
        /// <summary>Where to compute: "auto" (default: the first CUDA device that this process can
        /// use, else the CPU), "cpu", "cuda" (the first), "cuda:0". Null: the default.</summary>
        public string Device { get; set; }

        /// <summary>Threads that compute, the calling thread included; 0 (default): every processor
        /// the process may use. Results do not depend on the number.</summary>
        public int Threads { get; set; }

        /// <summary>Loading progress in decoded bytes of weights, or null.</summary>
        public ProgressCallback Progress { get; set; }

        /// <summary>Rare options by name: "cpu.kernels", "cuda.kernels", "max_decoded_bytes"; see
        /// flexq_model_options_set in flexq.h.</summary>
        public IDictionary<string, string> Named { get; } = new Dictionary<string, string>();

        /// <summary>For one native call, whose callbacks are given.</summary>
        internal static NativeHandle ToNative(ModelOptions options, Callbacks callbacks)
        {
            options = options ?? new ModelOptions();
            callbacks.Progress = options.Progress;
            return new NativeHandle(nameof(ModelOptions),
                (out IntPtr handle) => FlexqNative.flexq_model_options_create(out handle),
                FlexqNative.flexq_model_options_release)
                .With(handle => options.CopyTo(handle, callbacks));
        }

        private void CopyTo(IntPtr handle, Callbacks callbacks)
        {
            if (Device != null)
            {
                FlexqNative.flexq_model_options_set_device(
                    handle, Utf8.Name(Device, nameof(Device)));
            }
            FlexqNative.flexq_model_options_set_threads(handle, Threads);
            foreach (KeyValuePair<string, string> option in Named)
            {
                FlexqNative.flexq_model_options_set(
                    handle, Utf8.Name(option.Key, nameof(Named)),
                    Utf8.Name(option.Value, nameof(Named)));
            }
            FlexqNative.flexq_model_options_set_progress(
                handle, callbacks.NativeProgress, callbacks.UserData);
        }
    }
}

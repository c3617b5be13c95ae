using System;
using System.Collections.Generic;
using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>Precisions of a bundle, and how they are chosen. Read when it is used, so that it
    /// may be changed and used again; a value that the library does not take makes that call throw.
    /// </summary>
    public sealed class QuantizeOptions
    {
        /// <summary>"flexq" (default: 6-bit weights and activations, down_proj activations 8 bits),
        /// "w6a6", "w6a8", "w6a16", "w8a8", "w8a16", "fp16", "auto" (chosen for every linear layer:
        /// needs a calibration text and one of the two goals). Null: the default.</summary>
        public string Policy { get; set; }

        /// <summary>A text like those that the model will see, or null. What every policy costs on
        /// it goes into the bundle; "auto" chooses by it.</summary>
        public string CalibrationText { get; set; }

        /// <summary>Goal of "auto": the least 8-bit work with which the perplexity rises by at most
        /// this part, 0 to 1. Null: no such goal.</summary>
        public double? PerplexityBudget { get; set; }

        /// <summary>Goal of "auto": the least loss with at most this share of multiply-accumulates
        /// on 8-bit activations, 0 to 1. Null: no such goal.</summary>
        public double? A8Fraction { get; set; }

        /// <summary>0 (default): every processor. The bundle's bytes do not depend on it.
        /// </summary>
        public int Threads { get; set; }

        /// <summary>Progress in checkpoint bytes; with a calibration text in ten-thousandths of the
        /// expected work. Or null.</summary>
        public ProgressCallback Progress { get; set; }

        /// <summary>Rare options by name: "embedding_bits", "lm_head_bits", "scale_search",
        /// "equalization", "calibration_windows", "force"; see flexq_quantize_options_set in
        /// flexq.h.</summary>
        public IDictionary<string, string> Named { get; } = new Dictionary<string, string>();

        /// <summary>For one native call, whose callbacks are given.</summary>
        internal static NativeHandle ToNative(QuantizeOptions options, Callbacks callbacks)
        {
            options = options ?? new QuantizeOptions();
            callbacks.Progress = options.Progress;
            return new NativeHandle(nameof(QuantizeOptions),
                (out IntPtr handle) => FlexqNative.flexq_quantize_options_create(out handle),
                FlexqNative.flexq_quantize_options_release)
                .With(handle => options.CopyTo(handle, callbacks));
        }

        private void CopyTo(IntPtr handle, Callbacks callbacks)
        {
            if (Policy != null)
            {
                FlexqNative.flexq_quantize_options_set_policy(
                    handle, Utf8.Name(Policy, nameof(Policy)));
            }
            foreach (KeyValuePair<string, string> option in Named)
            {
                FlexqNative.flexq_quantize_options_set(
                    handle, Utf8.Name(option.Key, nameof(Named)),
                    Utf8.Name(option.Value, nameof(Named)));
            }
            if (CalibrationText != null)
            {
                byte[] text = Utf8.Text(CalibrationText, nameof(CalibrationText));
                FlexqNative.flexq_quantize_options_set_calibration(handle, text, text.Length);
            }
            if (PerplexityBudget.HasValue)
            {
                FlexqNative.flexq_quantize_options_set_perplexity_budget(
                    handle, PerplexityBudget.Value);
            }
            if (A8Fraction.HasValue)
            {
                FlexqNative.flexq_quantize_options_set_a8_fraction(handle, A8Fraction.Value);
            }
            FlexqNative.flexq_quantize_options_set_threads(handle, Threads);
            FlexqNative.flexq_quantize_options_set_progress(
                handle, callbacks.NativeProgress, callbacks.UserData);
        }
    }
}

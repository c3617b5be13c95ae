using System;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;
using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>Loaded weights with their tokenizer and thread pool. Immutable; may be used by any
    /// number of threads at once, each with a <see cref="Context"/> of its own.</summary>
    public sealed class Model : IDisposable
    {
        private Model(NativeHandle handle)
        {
            Handle = handle;
        }

        /// <summary>What the model is.</summary>
        public ModelInfo Info
        {
            get
            {
                using (NativeHandle.Lease model = Handle.Acquire())
                using (var info = new flexq_model_info())
                {
                    FlexqNative.flexq_model_get_info(model.Pointer, info);
                    return new ModelInfo(info);
                }
            }
        }

        internal NativeHandle Handle { get; }

        /// <summary>Opens a bundle or checkpoint folder, loads it and closes it again.</summary>
        /// <param name="path">As in <see cref="Source.Open"/>.</param>
        /// <param name="options">Null: the defaults.</param>
        /// <returns>A model to be disposed by the caller.</returns>
        /// <exception cref="FlexqException">As <see cref="Load(Source, ModelOptions)"/>.
        /// </exception>
        public static Model Load(string path, ModelOptions options = null)
        {
            using (Source source = Source.Open(path))
            {
                return Load(source, options);
            }
        }

        /// <summary>Verifies and loads the whole model into the device's memory.</summary>
        /// <param name="source">Not needed any more afterwards.</param>
        /// <param name="options">Null: the defaults.</param>
        /// <returns>A model to be disposed by the caller.</returns>
        /// <exception cref="FlexqException">NotFound, IO, Corrupt, UnsupportedVersion,
        /// UnsupportedModel, LimitExceeded, Signature, NonFinite, OutOfMemory, NoDevice,
        /// DeviceUnsupported, DeviceLost, Cancelled (by the progress callback), or what an option
        /// says.</exception>
        public static Model Load(Source source, ModelOptions options = null)
        {
            return Load(source, options, CancellationToken.None);
        }

        /// <summary><see cref="Load(Source, ModelOptions)"/> on another thread. Source and options
        /// must stay as they are until it is done.</summary>
        /// <param name="source">Not needed any more afterwards.</param>
        /// <param name="options">Null: the defaults.</param>
        /// <param name="cancellation">Cancels the load, which then leaves nothing behind.</param>
        /// <returns>A model to be disposed by the caller.</returns>
        public static Task<Model> LoadAsync(Source source, ModelOptions options = null,
            CancellationToken cancellation = default(CancellationToken))
        {
            return Task.Factory.StartNew(() => Load(source, options, cancellation), cancellation,
                TaskCreationOptions.LongRunning, TaskScheduler.Default);
        }

        /// <summary>Memory that a load and a context with these options would take. Reads headers
        /// only.</summary>
        /// <param name="source">Of the model.</param>
        /// <param name="options">Null: the defaults.</param>
        /// <param name="contextOptions">Null: the defaults.</param>
        /// <param name="deviceIndex">Among the devices of the options: 0 today.</param>
        /// <returns>The plan for that device.</returns>
        /// <exception cref="FlexqException">As <see cref="Load(Source, ModelOptions)"/>.
        /// </exception>
        public static ModelPlan Plan(Source source, ModelOptions options = null,
            ContextOptions contextOptions = null, int deviceIndex = 0)
        {
            NotNull(source);
            return NativeLoader.Call(() =>
            {
                using (var callbacks = new Callbacks())
                using (NativeHandle modelHandle = ModelOptions.ToNative(options, callbacks))
                using (NativeHandle contextHandle = ContextOptions.ToNative(contextOptions))
                using (NativeHandle.Lease modelLease = modelHandle.Acquire())
                using (NativeHandle.Lease contextLease = contextHandle.Acquire())
                using (var plan = new flexq_plan())
                {
                    IntPtr modelPointer = modelLease.Pointer;
                    IntPtr contextPointer = contextLease.Pointer;
                    callbacks.Call(() => source.Call(pointer => FlexqNative.flexq_model_plan(
                        pointer, modelPointer, contextPointer, deviceIndex, plan)));
                    return new ModelPlan(plan);
                }
            });
        }

        /// <summary>Every tensor, with the precision it is computed in.</summary>
        /// <returns>In the order of the bundle.</returns>
        public IReadOnlyList<TensorInfo> Tensors()
        {
            using (NativeHandle.Lease model = Handle.Acquire())
            using (var info = new flexq_tensor_info())
            {
                var tensors = new TensorInfo[FlexqNative.flexq_model_tensor_count(model.Pointer)];
                for (int i = 0; i < tensors.Length; i++)
                {
                    FlexqNative.flexq_model_get_tensor_info(model.Pointer, i, info);
                    tensors[i] = new TensorInfo(info);
                }
                return tensors;
            }
        }

        /// <summary>Whether the token ends a text (is one of the model's EOS ids).</summary>
        /// <param name="token">Token id.</param>
        /// <returns>true or false.</returns>
        public bool IsEndToken(int token)
        {
            using (NativeHandle.Lease model = Handle.Acquire())
            {
                return FlexqNative.flexq_model_is_end_token(model.Pointer, token) != 0;
            }
        }

        /// <summary>The model's tokenizer, as an object of its own, which may outlive the model.
        /// </summary>
        /// <returns>A tokenizer to be disposed by the caller.</returns>
        /// <exception cref="FlexqException">NotFound: the model has none.</exception>
        public Tokenizer CreateTokenizer()
        {
            using (NativeHandle.Lease model = Handle.Acquire())
            {
                return new Tokenizer((out IntPtr handle) =>
                    FlexqNative.flexq_model_tokenizer(model.Pointer, out handle));
            }
        }

        /// <summary>A KV cache and workspace on the model; all its memory is taken here.</summary>
        /// <param name="options">Null: the defaults.</param>
        /// <returns>A context to be disposed by the caller. It keeps the model's memory alive.
        /// </returns>
        /// <exception cref="FlexqException">OutOfMemory, UnsupportedValue, LimitExceeded.
        /// </exception>
        public Context CreateContext(ContextOptions options = null)
        {
            return new Context(this, options);
        }

        /// <summary>Lets no new call in; calls that run, contexts and tokenizers go on. Twice is
        /// once.</summary>
        public void Dispose()
        {
            Handle.Dispose();
        }

        private static Model Load(
            Source source, ModelOptions options, CancellationToken cancellation)
        {
            NotNull(source);
            using (var callbacks = new Callbacks(cancellation))
            using (NativeHandle optionsHandle = ModelOptions.ToNative(options, callbacks))
            using (NativeHandle.Lease optionsLease = optionsHandle.Acquire())
            {
                IntPtr optionsPointer = optionsLease.Pointer;
                NativeHandle.Creator load = (out IntPtr handle) =>
                {
                    IntPtr loaded = IntPtr.Zero;
                    callbacks.Call(() => source.Call(pointer =>
                        FlexqNative.flexq_model_load(pointer, optionsPointer, out loaded)));
                    handle = loaded;
                };
                return new Model(
                    new NativeHandle(nameof(Model), load, FlexqNative.flexq_model_release));
            }
        }

        private static void NotNull(Source source)
        {
            if (source == null)
            {
                throw new ArgumentNullException(nameof(source));
            }
        }
    }
}

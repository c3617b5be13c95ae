using System;
using System.Threading;
using System.Threading.Tasks;
using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>Makes bundles. Thread-safe.</summary>
    public static class Quantizer
    {
        /// <summary>Turns a Hugging Face LLaMA checkpoint folder into a bundle. Streams: needs
        /// memory for a few pieces of a tensor per thread. The output appears under its name only
        /// when complete; on any error what was there before is untouched.</summary>
        /// <param name="checkpointDirectory">The checkpoint.</param>
        /// <param name="outputPath">The bundle to be written.</param>
        /// <param name="options">Null: the defaults.</param>
        /// <exception cref="FlexqException">NotFound, IO, NoSpace, Corrupt, UnsupportedModel,
        /// NonFinite, InvalidArgument, BudgetNotMet (the message says what was reached), Cancelled,
        /// or what an option says.</exception>
        public static void Quantize(
            string checkpointDirectory, string outputPath, QuantizeOptions options = null)
        {
            Quantize(checkpointDirectory, outputPath, options, CancellationToken.None);
        }

        /// <summary><see cref="Quantize(string, string, QuantizeOptions)"/> on another thread. The
        /// options must stay as they are until it is done.</summary>
        /// <param name="checkpointDirectory">The checkpoint.</param>
        /// <param name="outputPath">The bundle to be written.</param>
        /// <param name="options">Null: the defaults.</param>
        /// <param name="cancellation">Cancels it.</param>
        /// <returns>Ends when the bundle is there.</returns>
        public static Task QuantizeAsync(string checkpointDirectory, string outputPath,
            QuantizeOptions options = null,
            CancellationToken cancellation = default(CancellationToken))
        {
            return Task.Factory.StartNew(
                () => Quantize(checkpointDirectory, outputPath, options, cancellation),
                cancellation, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        }

        /// <summary>A bundle of random weights of a published shape.</summary>
        /// <param name="shape">As in <see cref="Source.Synthetic"/>.</param>
        /// <param name="outputPath">The bundle to be written.</param>
        /// <param name="options">Null: the defaults.</param>
        /// <exception cref="FlexqException">UnsupportedValue; else as
        /// <see cref="Quantize(string, string, QuantizeOptions)"/>.</exception>
        public static void QuantizeSynthetic(
            string shape, string outputPath, QuantizeOptions options = null)
        {
            byte[] shapeName = Utf8.Name(shape, nameof(shape));
            byte[] output = Utf8.Name(outputPath, nameof(outputPath));
            using (var callbacks = new Callbacks())
            using (NativeHandle optionsHandle = QuantizeOptions.ToNative(options, callbacks))
            using (NativeHandle.Lease optionsLease = optionsHandle.Acquire())
            {
                IntPtr pointer = optionsLease.Pointer;
                callbacks.Call(() =>
                    FlexqNative.flexq_quantize_synthetic(shapeName, output, pointer));
            }
        }

        private static void Quantize(string checkpointDirectory, string outputPath,
            QuantizeOptions options, CancellationToken cancellation)
        {
            byte[] checkpoint = Utf8.Name(checkpointDirectory, nameof(checkpointDirectory));
            byte[] output = Utf8.Name(outputPath, nameof(outputPath));
            using (var callbacks = new Callbacks(cancellation))
            using (NativeHandle optionsHandle = QuantizeOptions.ToNative(options, callbacks))
            using (NativeHandle.Lease optionsLease = optionsHandle.Acquire())
            {
                IntPtr pointer = optionsLease.Pointer;
                callbacks.Call(() => FlexqNative.flexq_quantize(checkpoint, output, pointer));
            }
        }
    }
}

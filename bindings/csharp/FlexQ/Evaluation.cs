using System;
using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>How good a model is on texts and questions. Thread-safe.</summary>
    public static class Evaluation
    {
        /// <summary>Perplexity of a text: tokenized whole with one BOS, cut into consecutive
        /// windows, each computed from an empty cache.</summary>
        /// <param name="model">With a tokenizer.</param>
        /// <param name="text">At least one window long.</param>
        /// <param name="windowTokens">2 to the model's context.</param>
        /// <param name="maxWindows">0: all.</param>
        /// <param name="options">KV cache type and chunk size count; null: the defaults.</param>
        /// <param name="onWindow">Called after each window; may be null.</param>
        /// <returns>The figures.</returns>
        /// <exception cref="FlexqException">InvalidArgument, NotFound (no tokenizer), Cancelled,
        /// NonFinite, OutOfMemory.</exception>
        public static PerplexityResult Perplexity(Model model, string text, int windowTokens,
            int maxWindows = 0, ContextOptions options = null, WindowCallback onWindow = null)
        {
            NotNull(model, nameof(model));
            byte[] bytes = Utf8.Text(text, nameof(text));
            return NativeLoader.Call(() =>
            {
                using (NativeHandle.Lease modelLease = model.Handle.Acquire())
                using (NativeHandle optionsHandle = ContextOptions.ToNative(options))
                using (NativeHandle.Lease optionsLease = optionsHandle.Acquire())
                using (var callbacks = new Callbacks { Window = onWindow })
                using (var result = new flexq_perplexity_result())
                {
                    IntPtr pointer = modelLease.Pointer;
                    IntPtr optionsPointer = optionsLease.Pointer;
                    callbacks.Call(() => FlexqNative.flexq_evaluate_perplexity(
                        pointer, optionsPointer, bytes, bytes.Length, windowTokens, maxWindows,
                        callbacks.NativeWindow, callbacks.UserData, result));
                    return new PerplexityResult(result);
                }
            });
        }

        /// <summary>Accuracy on multiple-choice questions, scored as in the lm-evaluation-harness.
        /// </summary>
        /// <param name="model">With a tokenizer.</param>
        /// <param name="questions">Of one task.</param>
        /// <param name="batchSize">Continuations computed side by side; 0: 64. No result depends on
        /// it.</param>
        /// <param name="maxQuestions">0: all.</param>
        /// <param name="options">KV cache type and chunk size count; null: the defaults.</param>
        /// <param name="progress">Counts tokens; may be null.</param>
        /// <param name="onQuestion">Called once for every question, in their order; returns true to
        /// go on, false to cancel; may be null.</param>
        /// <returns>The figures.</returns>
        /// <exception cref="FlexqException">InvalidArgument, NotFound (no tokenizer), Cancelled,
        /// NonFinite, OutOfMemory.</exception>
        public static ChoiceResult Choices(Model model, Questions questions, int batchSize = 0,
            int maxQuestions = 0, ContextOptions options = null, ProgressCallback progress = null,
            Func<QuestionResult, bool> onQuestion = null)
        {
            NotNull(model, nameof(model));
            NotNull(questions, nameof(questions));
            return NativeLoader.Call(() =>
            {
                using (NativeHandle.Lease modelLease = model.Handle.Acquire())
                using (NativeHandle.Lease questionsLease = questions.Handle.Acquire())
                using (NativeHandle optionsHandle = ContextOptions.ToNative(options))
                using (NativeHandle.Lease optionsLease = optionsHandle.Acquire())
                using (var callbacks = new Callbacks { Progress = progress, Question = onQuestion })
                using (var result = new flexq_choice_result())
                {
                    IntPtr pointer = modelLease.Pointer;
                    IntPtr optionsPointer = optionsLease.Pointer;
                    IntPtr questionsPointer = questionsLease.Pointer;
                    callbacks.Call(() => FlexqNative.flexq_evaluate_choices(pointer, optionsPointer,
                        questionsPointer, batchSize, maxQuestions, callbacks.NativeProgress,
                        callbacks.NativeQuestion, callbacks.UserData, result));
                    return new ChoiceResult(result);
                }
            });
        }

        /// <summary>What differs between two models on a text, cut into windows as by
        /// <see cref="Perplexity"/>. They may be on different devices.</summary>
        /// <param name="reference">Model A.</param>
        /// <param name="other">Model B: quantized, say.</param>
        /// <param name="text">At least one window long.</param>
        /// <param name="windowTokens">2 to the models' context.</param>
        /// <param name="maxWindows">0: all.</param>
        /// <param name="options">KV cache type and chunk size count; null: the defaults.</param>
        /// <param name="progress">Counts positions; may be null.</param>
        /// <returns>The figures.</returns>
        /// <exception cref="FlexqException">InvalidArgument (a short text; different vocabularies),
        /// NotFound (no tokenizer), Cancelled, NonFinite, OutOfMemory.</exception>
        public static ComparisonResult Compare(Model reference, Model other, string text,
            int windowTokens, int maxWindows = 0, ContextOptions options = null,
            ProgressCallback progress = null)
        {
            NotNull(reference, nameof(reference));
            NotNull(other, nameof(other));
            byte[] bytes = Utf8.Text(text, nameof(text));
            return NativeLoader.Call(() =>
            {
                using (NativeHandle.Lease leaseA = reference.Handle.Acquire())
                using (NativeHandle.Lease leaseB = other.Handle.Acquire())
                using (NativeHandle optionsHandle = ContextOptions.ToNative(options))
                using (NativeHandle.Lease optionsLease = optionsHandle.Acquire())
                using (var callbacks = new Callbacks { Progress = progress })
                using (var result = new flexq_comparison_result())
                {
                    IntPtr pointerA = leaseA.Pointer;
                    IntPtr pointerB = leaseB.Pointer;
                    IntPtr optionsPointer = optionsLease.Pointer;
                    callbacks.Call(() => FlexqNative.flexq_evaluate_comparison(pointerA, pointerB,
                        optionsPointer, bytes, bytes.Length, windowTokens, maxWindows,
                        callbacks.NativeProgress, callbacks.UserData, result));
                    return new ComparisonResult(result);
                }
            });
        }

        private static void NotNull(object argument, string parameter)
        {
            if (argument == null)
            {
                throw new ArgumentNullException(parameter);
            }
        }
    }
}

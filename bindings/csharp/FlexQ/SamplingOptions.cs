using System;
using System.Collections.Generic;
using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>How the next token is drawn from logits: bias, penalties, temperature, top-k,
    /// min-p, top-p, draw, in this order. The draw depends on seed and position alone. Read when it
    /// is used, so that it may be changed and used again; a value out of range makes that call
    /// throw.</summary>
    public sealed class SamplingOptions
    {
        /// <summary>0 (default): the most probable token; up to 100.</summary>
        public float Temperature { get; set; }

        /// <summary>Keeps the k most probable tokens; 0 (default): all.</summary>
        public int TopK { get; set; }

        /// <summary>Keeps the fewest tokens whose probabilities reach this; 1 (default): all.
        /// </summary>
        public float TopP { get; set; } = 1;

        /// <summary>Keeps tokens with at least this part of the largest probability; 0 (default):
        /// all.</summary>
        public float MinP { get; set; }

        /// <summary>Seed of the draws.</summary>
        public ulong Seed { get; set; }

        /// <summary>Divides a positive logit of a token that occurred, multiplies a negative one;
        /// 1 (default): off.</summary>
        public float RepetitionPenalty { get; set; } = 1;

        /// <summary>Taken off the logit of a token that occurred.</summary>
        public float PresencePenalty { get; set; }

        /// <summary>Taken off the logit for every time the token occurred.</summary>
        public float FrequencyPenalty { get; set; }

        /// <summary>Tokens that penalties look back (default 64).</summary>
        public int PenaltyWindow { get; set; } = 64;

        /// <summary>Added to logits before everything else, by token id; negative infinity forbids
        /// the token.</summary>
        public IDictionary<int, float> LogitBias { get; } = new Dictionary<int, float>();

        /// <summary>Draws one token. Thread-safe as long as the options are not changed.</summary>
        /// <param name="logits">One for every token of the vocabulary.</param>
        /// <param name="history">Tokens that penalties look at, oldest first; null: none.</param>
        /// <param name="position">The absolute position that the new token will have.</param>
        /// <returns>The token and its ln p under the untouched logits.</returns>
        /// <exception cref="FlexqException">NonFinite (NaN, +infinity, or every token forbidden),
        /// InvalidArgument.</exception>
        public TokenAlternative Sample(float[] logits, int[] history, int position)
        {
            Buffers.NotNull(logits, nameof(logits));
            int historyCount = history == null ? 0 : history.Length;
            return NativeLoader.Call(() =>
            {
                using (NativeHandle options = ToNative())
                using (NativeHandle.Lease sampling = options.Acquire())
                {
                    int token;
                    float logProbability;
                    FlexqNative.flexq_sampling_sample(
                        sampling.Pointer, logits, logits.Length, history, historyCount, position,
                        out token, out logProbability);
                    return new TokenAlternative(token, logProbability);
                }
            });
        }

        /// <summary>For one native call.</summary>
        internal NativeHandle ToNative()
        {
            return new NativeHandle(nameof(SamplingOptions),
                (out IntPtr handle) => FlexqNative.flexq_sampling_create(out handle),
                FlexqNative.flexq_sampling_release)
                .With(CopyTo);
        }

        private void CopyTo(IntPtr handle)
        {
            FlexqNative.flexq_sampling_set_temperature(handle, Temperature);
            FlexqNative.flexq_sampling_set_top_k(handle, TopK);
            FlexqNative.flexq_sampling_set_top_p(handle, TopP);
            FlexqNative.flexq_sampling_set_min_p(handle, MinP);
            FlexqNative.flexq_sampling_set_seed(handle, Seed);
            FlexqNative.flexq_sampling_set_penalties(
                handle, RepetitionPenalty, PresencePenalty, FrequencyPenalty, PenaltyWindow);
            foreach (KeyValuePair<int, float> bias in LogitBias)
            {
                FlexqNative.flexq_sampling_set_logit_bias(handle, bias.Key, bias.Value);
            }
        }
    }
}

using System.Collections.Generic;
using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>One step of an answer. Immutable: it may be kept.</summary>
    public sealed class TokenEvent
    {
        private static readonly TokenAlternative[] s_none = new TokenAlternative[0];

        internal TokenEvent(flexq_token_event native)
        {
            FinishReason = (FinishReason)native.finish_reason;
            Token = native.token;
            Position = native.position;
            TextByteCount = (int)native.text_bytes;
            Text = Utf8.Text(native.text, TextByteCount);
            LogProbability = native.log_prob;
            Alternatives = ReadAlternatives(native);
        }

        /// <summary><see cref="FinishReason.None"/>: this is a token; else the last event.
        /// </summary>
        public FinishReason FinishReason { get; }

        /// <summary>Token id; -1 in the last event, which carries only text that was held back.
        /// </summary>
        public int Token { get; }

        /// <summary>Of the token in the sequence.</summary>
        public int Position { get; }

        /// <summary>The text that became complete, in whole characters; may be empty.</summary>
        public string Text { get; }

        /// <summary>Length of the text in UTF-8, as the library counts it.</summary>
        public int TextByteCount { get; }

        /// <summary>ln p(token) under the untouched logits.</summary>
        public float LogProbability { get; }

        /// <summary>The most probable tokens, most probable first; as many as
        /// <see cref="GeneratorOptions.Alternatives"/> says.</summary>
        public IReadOnlyList<TokenAlternative> Alternatives { get; }

        private static TokenAlternative[] ReadAlternatives(flexq_token_event native)
        {
            int count = native.n_alternatives;
            if (count == 0)
            {
                return s_none;
            }
            int[] tokens = Buffers.Ints(native.alternative_tokens, count);
            float[] logProbabilities = Buffers.Floats(native.alternative_log_probs, count);
            var alternatives = new TokenAlternative[count];
            for (int i = 0; i < count; i++)
            {
                alternatives[i] = new TokenAlternative(tokens[i], logProbabilities[i]);
            }
            return alternatives;
        }
    }
}

using System.Collections.Generic;
using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>How a model answered one question. Immutable.</summary>
    public sealed class QuestionResult
    {
        internal QuestionResult(flexq_question_result native)
        {
            Question = native.question;
            QuestionCount = native.n_questions;
            Answer = native.answer;
            Best = native.best;
            BestNormalized = native.best_norm;
            Scores = Buffers.Doubles(native.scores, native.n_choices);
        }

        /// <summary>Its index.</summary>
        public int Question { get; }

        /// <summary>How many are asked.</summary>
        public int QuestionCount { get; }

        /// <summary>The right choice.</summary>
        public int Answer { get; }

        /// <summary>The choice of the highest score, the first among equals.</summary>
        public int Best { get; }

        /// <summary>The choice of the highest score per character of its text.</summary>
        public int BestNormalized { get; }

        /// <summary>ln p of each choice.</summary>
        public IReadOnlyList<double> Scores { get; }
    }
}

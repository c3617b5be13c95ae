using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>Accuracy on multiple-choice questions. Immutable.</summary>
    public sealed class ChoiceResult
    {
        internal ChoiceResult(flexq_choice_result native)
        {
            QuestionCount = native.n_questions;
            Correct = native.n_correct;
            CorrectNormalized = native.n_correct_norm;
            Accuracy = native.accuracy;
            AccuracyNormalized = native.accuracy_norm;
        }

        /// <summary>Questions asked.</summary>
        public int QuestionCount { get; }

        /// <summary>Where the best choice is the answer.</summary>
        public int Correct { get; }

        /// <summary>The same with scores per character.</summary>
        public int CorrectNormalized { get; }

        /// <summary>Correct / QuestionCount.</summary>
        public double Accuracy { get; }

        /// <summary>CorrectNormalized / QuestionCount.</summary>
        public double AccuracyNormalized { get; }
    }
}

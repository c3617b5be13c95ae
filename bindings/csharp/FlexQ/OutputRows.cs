using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>Rows of logits wanted for tokens that are added to a batch.</summary>
    public enum OutputRows
    {
        /// <summary>None.</summary>
        None = FlexqNative.FLEXQ_OUTPUT_NONE,

        /// <summary>One for the last of the added tokens.</summary>
        Last = FlexqNative.FLEXQ_OUTPUT_LAST,

        /// <summary>One for each of the added tokens.</summary>
        All = FlexqNative.FLEXQ_OUTPUT_ALL,
    }
}

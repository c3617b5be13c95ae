using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>Why an answer ended.</summary>
    public enum FinishReason
    {
        /// <summary>It has not.</summary>
        None = FlexqNative.FLEXQ_FINISH_NONE,

        /// <summary>An end token, a stop string, or the end of an answer in JSON.</summary>
        Stop = FlexqNative.FLEXQ_FINISH_STOP,

        /// <summary>As many tokens as were allowed, or the context is full.</summary>
        Length = FlexqNative.FLEXQ_FINISH_LENGTH,

        /// <summary>Cancel, or a callback that ended it.</summary>
        Cancelled = FlexqNative.FLEXQ_FINISH_CANCELLED,

        /// <summary>The deadline passed.</summary>
        Deadline = FlexqNative.FLEXQ_FINISH_DEADLINE,

        /// <summary>The exception of the call that failed says which.</summary>
        Error = FlexqNative.FLEXQ_FINISH_ERROR,
    }
}

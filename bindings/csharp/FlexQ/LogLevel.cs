using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>Importance of a log message; higher is less.</summary>
    public enum LogLevel
    {
        /// <summary>Something failed.</summary>
        Error = FlexqNative.FLEXQ_LOG_ERROR,

        /// <summary>Something may not be what the caller wants.</summary>
        Warning = FlexqNative.FLEXQ_LOG_WARNING,

        /// <summary>What was chosen and done.</summary>
        Info = FlexqNative.FLEXQ_LOG_INFO,

        /// <summary>Details.</summary>
        Debug = FlexqNative.FLEXQ_LOG_DEBUG,
    }
}

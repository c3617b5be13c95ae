using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>What failed. The numbers are the status codes of flexq.h and are never renumbered;
    /// a newer library may give numbers that are not listed here.</summary>
    public enum ErrorCode
    {
        /// <summary>Null, negative or out of range.</summary>
        InvalidArgument = FlexqNative.FLEXQ_ERROR_INVALID_ARGUMENT,

        /// <summary>No option key of that name.</summary>
        UnknownOption = FlexqNative.FLEXQ_ERROR_UNKNOWN_OPTION,

        /// <summary>A known option, a value this build does not take.</summary>
        UnsupportedValue = FlexqNative.FLEXQ_ERROR_UNSUPPORTED_VALUE,

        /// <summary>The call does not fit what happened before, or another thread is inside the
        /// context.</summary>
        InvalidState = FlexqNative.FLEXQ_ERROR_INVALID_STATE,

        /// <summary>Not seen by callers: buffers are sized by the binding.</summary>
        BufferTooSmall = FlexqNative.FLEXQ_ERROR_BUFFER_TOO_SMALL,

        /// <summary>Host or device memory.</summary>
        OutOfMemory = FlexqNative.FLEXQ_ERROR_OUT_OF_MEMORY,

        /// <summary>An operating-system call failed; the message names the path.</summary>
        IO = FlexqNative.FLEXQ_ERROR_IO,

        /// <summary>A file, folder or named thing does not exist.</summary>
        NotFound = FlexqNative.FLEXQ_ERROR_NOT_FOUND,

        /// <summary>Disk or quota full.</summary>
        NoSpace = FlexqNative.FLEXQ_ERROR_NO_SPACE,

        /// <summary>A file is damaged or malformed.</summary>
        Corrupt = FlexqNative.FLEXQ_ERROR_CORRUPT,

        /// <summary>A newer format, or a feature unknown to this reader.</summary>
        UnsupportedVersion = FlexqNative.FLEXQ_ERROR_UNSUPPORTED_VERSION,

        /// <summary>Well-formed, but a model FlexQ does not implement.</summary>
        UnsupportedModel = FlexqNative.FLEXQ_ERROR_UNSUPPORTED_MODEL,

        /// <summary>A declared size beyond the documented limits.</summary>
        LimitExceeded = FlexqNative.FLEXQ_ERROR_LIMIT_EXCEEDED,

        /// <summary>A signature that does not fit, or none by the key that was required.</summary>
        Signature = FlexqNative.FLEXQ_ERROR_SIGNATURE,

        /// <summary>Cancelled by a Cancel call or a progress callback.</summary>
        Cancelled = FlexqNative.FLEXQ_ERROR_CANCELLED,

        /// <summary>The deadline of the generator or the request passed.</summary>
        DeadlineExceeded = FlexqNative.FLEXQ_ERROR_DEADLINE_EXCEEDED,

        /// <summary>No room in the context length or the KV cache.</summary>
        ContextFull = FlexqNative.FLEXQ_ERROR_CONTEXT_FULL,

        /// <summary>NaN or infinity in weights, logits or hidden states.</summary>
        NonFinite = FlexqNative.FLEXQ_ERROR_NON_FINITE,

        /// <summary>A callback ended the operation.</summary>
        StoppedByCallback = FlexqNative.FLEXQ_ERROR_STOPPED_BY_CALLBACK,

        /// <summary>No choice keeps the limit that was set.</summary>
        BudgetNotMet = FlexqNative.FLEXQ_ERROR_BUDGET_NOT_MET,

        /// <summary>Too many requests wait in the engine; try again later.</summary>
        QueueFull = FlexqNative.FLEXQ_ERROR_QUEUE_FULL,

        /// <summary>The device that was asked for is not there.</summary>
        NoDevice = FlexqNative.FLEXQ_ERROR_NO_DEVICE,

        /// <summary>This build cannot use the device.</summary>
        DeviceUnsupported = FlexqNative.FLEXQ_ERROR_DEVICE_UNSUPPORTED,

        /// <summary>Broken until the process ends; other devices go on.</summary>
        DeviceLost = FlexqNative.FLEXQ_ERROR_DEVICE_LOST,

        /// <summary>A bug in FlexQ.</summary>
        Internal = FlexqNative.FLEXQ_ERROR_INTERNAL,
    }
}

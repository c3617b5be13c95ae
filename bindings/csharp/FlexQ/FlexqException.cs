using System;
using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>A failure of the native library. The message says what was expected and what was
    /// found.</summary>
    public sealed class FlexqException : Exception
    {
        internal FlexqException(int status, string message)
            : base(message)
        {
            Code = (ErrorCode)status;
            Name = Utf8.Name(FlexqNative.flexq_status_name(status));
        }

        /// <summary>What failed.</summary>
        public ErrorCode Code { get; }

        /// <summary>The code's name in C without its prefix, such as "OUT_OF_MEMORY"; "UNKNOWN" for
        /// the numbers of a newer library.</summary>
        public string Name { get; }

        /// <summary>Type, name and message, then the stack.</summary>
        /// <returns>Several lines.</returns>
        public override string ToString()
        {
            return GetType().FullName + ": " + Name + ": " + Message + "\n" + StackTrace;
        }

        /// <summary>For the generated code: right behind the native call, on its thread, whose last
        /// error it reads.</summary>
        internal static void ThrowIfFailed(int status)
        {
            if (status != FlexqNative.FLEXQ_OK)
            {
                throw new FlexqException(status, Utf8.Name(FlexqNative.flexq_last_error()));
            }
        }

        /// <summary>The same for functions that fill a buffer: false when it is too
        /// small.</summary>
        internal static bool FalseIfTooSmall(int status)
        {
            if (status == FlexqNative.FLEXQ_ERROR_BUFFER_TOO_SMALL)
            {
                return false;
            }
            ThrowIfFailed(status);
            return true;
        }
    }
}

using System;
using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>Questions with two or more choices of which one is right. Immutable and
    /// thread-safe.</summary>
    public sealed class Questions : IDisposable
    {
        private Questions(NativeHandle handle)
        {
            Handle = handle;
        }

        /// <summary>How many there are.</summary>
        public int Count
        {
            get
            {
                using (NativeHandle.Lease questions = Handle.Acquire())
                {
                    return FlexqNative.flexq_questions_count(questions.Pointer);
                }
            }
        }

        internal NativeHandle Handle { get; }

        /// <summary>Reads the questions of a published task.</summary>
        /// <param name="task">"piqa", "arc", "boolq", "winogrande" (one JSON object a line),
        /// "hellaswag" (six lines of text a question).</param>
        /// <param name="path">Of the file.</param>
        /// <returns>Questions to be disposed by the caller.</returns>
        /// <exception cref="FlexqException">UnsupportedValue (task), NotFound, IO, Corrupt (the
        /// message names the line), LimitExceeded (over 2^28 bytes).</exception>
        public static Questions Open(string task, string path)
        {
            byte[] taskName = Utf8.Name(task, nameof(task));
            byte[] pathName = Utf8.Name(path, nameof(path));
            return new Questions(new NativeHandle(nameof(Questions),
                (out IntPtr handle) => FlexqNative.flexq_questions_open(
                    taskName, pathName, out handle),
                FlexqNative.flexq_questions_release));
        }

        /// <summary>Frees the questions, after the calls that use them. Twice is once.</summary>
        public void Dispose()
        {
            Handle.Dispose();
        }
    }
}

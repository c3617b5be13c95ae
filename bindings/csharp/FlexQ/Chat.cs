using System;
using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>The messages of one conversation, in their order. One thread at a time:
    /// a call while another thread is inside throws InvalidOperationException.</summary>
    public sealed class Chat : IDisposable
    {
        /// <summary>A conversation without a message.</summary>
        public Chat()
        {
            Handle = new NativeHandle(nameof(Chat),
                (out IntPtr handle) => FlexqNative.flexq_chat_create(out handle),
                FlexqNative.flexq_chat_release);
        }

        internal NativeHandle Handle { get; }

        /// <summary>Appends a message.</summary>
        /// <param name="role">"system", "user" or "assistant".</param>
        /// <param name="content">Any text; it stays text whatever it spells.</param>
        /// <returns>This conversation.</returns>
        /// <exception cref="FlexqException">InvalidArgument, LimitExceeded (over 2^28 bytes).
        /// </exception>
        public Chat Add(string role, string content)
        {
            byte[] name = Utf8.Name(role, nameof(role));
            byte[] text = Utf8.Text(content, nameof(content));
            using (NativeHandle.Lease chat = Handle.AcquireAlone())
            {
                FlexqNative.flexq_chat_add(chat.Pointer, name, text, text.Length);
            }
            return this;
        }

        /// <summary>Forgets all messages.</summary>
        public void Clear()
        {
            using (NativeHandle.Lease chat = Handle.AcquireAlone())
            {
                FlexqNative.flexq_chat_clear(chat.Pointer);
            }
        }

        /// <summary>Frees the messages. Twice is once.</summary>
        public void Dispose()
        {
            Handle.Dispose();
        }
    }
}

using System;
using System.Runtime.InteropServices;
using System.Text;

namespace FlexQ.Internal
{
    /// <summary>Strings to UTF-8 and back. The only place that does it.</summary>
    internal static class Utf8
    {
        private static readonly UTF8Encoding s_lenient = new UTF8Encoding(false, false);
        private static readonly UTF8Encoding s_strict = new UTF8Encoding(false, true);

        /// <summary>Text, any characters; half a surrogate pair becomes U+FFFD.</summary>
        internal static byte[] Text(string text, string parameter)
        {
            if (text == null)
            {
                throw new ArgumentNullException(parameter);
            }
            return s_lenient.GetBytes(text);
        }

        /// <summary>A name, key, value or path, with its terminating NUL; null stays
        /// null.</summary>
        internal static byte[] Name(string name, string parameter)
        {
            if (name == null)
            {
                return null;
            }
            if (name.IndexOf('\0') >= 0)
            {
                throw new ArgumentException("a name cannot have a zero character in it", parameter);
            }
            try
            {
                return s_strict.GetBytes(name + '\0');
            }
            catch (EncoderFallbackException)
            {
                throw new ArgumentException("half a surrogate pair in a name", parameter);
            }
        }

        internal static string Text(byte[] bytes)
        {
            return s_lenient.GetString(bytes);
        }

        /// <summary>Bytes that C owns.</summary>
        internal static byte[] Bytes(IntPtr bytes, long length)
        {
            var copy = new byte[checked((int)length)];
            if (copy.Length > 0)
            {
                Marshal.Copy(bytes, copy, 0, copy.Length);
            }
            return copy;
        }

        internal static string Text(IntPtr text, long length)
        {
            return length == 0 ? "" : Text(Bytes(text, length));
        }

        /// <summary>A NUL-terminated string that C owns.</summary>
        internal static string Name(IntPtr name)
        {
            int length = 0;
            while (Marshal.ReadByte(name, length) != 0)
            {
                length++;
            }
            return Text(name, length);
        }
    }
}

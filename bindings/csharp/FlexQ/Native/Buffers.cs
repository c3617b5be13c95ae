using System;
using System.Runtime.InteropServices;

namespace FlexQ.Internal
{
    /// <summary>Arrays from functions that fill a caller's buffer, and from memory of
    /// C's.</summary>
    internal static class Buffers
    {
        internal delegate bool FillTokens(int[] tokens, int capacity, out int length);

        internal delegate bool FillBytes(byte[] bytes, long capacity, out long length);

        /// <summary>fill says by false that the capacity is too small, and what is
        /// needed.</summary>
        internal static int[] Tokens(int expected, FillTokens fill)
        {
            var tokens = new int[expected];
            int length;
            while (!fill(tokens, tokens.Length, out length))
            {
                tokens = new int[length];
            }
            Array.Resize(ref tokens, length);
            return tokens;
        }

        internal static byte[] Bytes(int expected, FillBytes fill)
        {
            var bytes = new byte[expected];
            long length;
            while (!fill(bytes, bytes.Length, out length))
            {
                bytes = new byte[length];
            }
            Array.Resize(ref bytes, (int)length);
            return bytes;
        }

        internal static int[] Ints(IntPtr numbers, int count)
        {
            var copy = new int[count];
            if (count > 0)
            {
                Marshal.Copy(numbers, copy, 0, count);
            }
            return copy;
        }

        internal static float[] Floats(IntPtr numbers, int count)
        {
            var copy = new float[count];
            if (count > 0)
            {
                Marshal.Copy(numbers, copy, 0, count);
            }
            return copy;
        }

        internal static double[] Doubles(IntPtr numbers, int count)
        {
            var copy = new double[count];
            if (count > 0)
            {
                Marshal.Copy(numbers, copy, 0, count);
            }
            return copy;
        }

        /// <summary>The array itself, or an exception that names the parameter.</summary>
        internal static T[] NotNull<T>(T[] array, string parameter)
        {
            if (array == null)
            {
                throw new ArgumentNullException(parameter);
            }
            return array;
        }
    }
}

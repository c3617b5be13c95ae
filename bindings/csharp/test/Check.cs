using System;
using System.Collections.Generic;
using System.Linq;

namespace FlexQ.Tests
{
    /// <summary>What a scenario found is not what it expected.</summary>
    internal sealed class CheckFailedException : Exception
    {
        internal CheckFailedException(string message)
            : base(message)
        {
        }
    }

    internal static class Check
    {
        internal static void True(bool condition, string what)
        {
            if (!condition)
            {
                throw new CheckFailedException(what);
            }
        }

        internal static void Equal<T>(T expected, T actual, string what)
        {
            if (!EqualityComparer<T>.Default.Equals(expected, actual))
            {
                throw new CheckFailedException(string.Format(
                    "{0}: expected {1}, found {2}", what, expected, actual));
            }
        }

        internal static void Same<T>(IEnumerable<T> expected, IEnumerable<T> actual, string what)
        {
            T[] left = expected.ToArray();
            T[] right = actual.ToArray();
            for (int i = 0; i < Math.Min(left.Length, right.Length); i++)
            {
                Equal(left[i], right[i], what + "[" + i + "]");
            }
            Equal(left.Length, right.Length, what + ": length");
        }

        internal static void Contains(string part, string text, string what)
        {
            True(text.Contains(part),
                string.Format("{0}: expected \"{1}\" in \"{2}\"", what, part, text));
        }

        internal static TException Throws<TException>(Action action, string what)
            where TException : Exception
        {
            try
            {
                action();
            }
            catch (TException expected)
            {
                return expected;
            }
            catch (Exception other)
            {
                throw new CheckFailedException(string.Format(
                    "{0}: expected {1}, found {2}", what, typeof(TException).Name, other));
            }
            throw new CheckFailedException(string.Format(
                "{0}: expected {1}, nothing was thrown", what, typeof(TException).Name));
        }

        /// <summary>The library's own exception, with code, name and a message that has a part.
        /// </summary>
        internal static FlexqException Fails(
            ErrorCode code, string name, string part, Action action, string what)
        {
            var thrown = Throws<FlexqException>(action, what);
            Equal(code, thrown.Code, what + ": code");
            Equal(name, thrown.Name, what + ": name");
            Contains(part, thrown.Message, what + ": message");
            return thrown;
        }
    }
}

using System;
using System.Collections.Generic;
using System.IO;

namespace FlexQ.Tests
{
    /// <summary>Where things are, from arguments NAME=VALUE.</summary>
    internal static class Settings
    {
        private static readonly Dictionary<string, string> s_values =
            new Dictionary<string, string>();

        /// <summary>Folder of bundles, made by bindings/test/make_bundles.sh.</summary>
        internal static string Bundles
        {
            get { return Get("bundles"); }
        }

        /// <summary>The source tree.</summary>
        internal static string SourceTree
        {
            get { return Get("source"); }
        }

        /// <summary>The program bindings_reference.</summary>
        internal static string Reference
        {
            get { return Get("reference"); }
        }

        /// <summary>Folder with libflexq.so.0 and libflexq_csharp.so.</summary>
        internal static string Natives
        {
            get { return Get("natives"); }
        }

        /// <summary>Folder with a libflexq.so.0 of another ABI version.</summary>
        internal static string OtherAbi
        {
            get { return Get("other_abi"); }
        }

        /// <summary>Folder with FlexQ.Natives.dll.</summary>
        internal static string ResourceAssembly
        {
            get { return Get("resources"); }
        }

        /// <summary>For a child: which of its first calls.</summary>
        internal static string First
        {
            get { return Get("first"); }
        }

        internal static string Only
        {
            get { return s_values.ContainsKey("only") ? s_values["only"] : null; }
        }

        internal static string Stories
        {
            get { return Path.Combine(Bundles, "stories260k-flexq.flexq"); }
        }

        internal static string StoriesFp16
        {
            get { return Path.Combine(Bundles, "stories260k-fp16.flexq"); }
        }

        internal static string Scripted
        {
            get { return Path.Combine(Bundles, "scripted-flexq.flexq"); }
        }

        internal static string StoriesCheckpoint
        {
            get { return Path.Combine(SourceTree, "samples/data/stories260k"); }
        }

        internal static void Read(IEnumerable<string> arguments)
        {
            foreach (string argument in arguments)
            {
                int equals = argument.IndexOf('=');
                if (equals < 0)
                {
                    throw new ArgumentException("expected NAME=VALUE, found " + argument);
                }
                s_values[argument.Substring(0, equals)] = argument.Substring(equals + 1);
            }
        }

        /// <summary>The arguments again, for a child process.</summary>
        internal static IEnumerable<string> Arguments()
        {
            foreach (KeyValuePair<string, string> value in s_values)
            {
                yield return value.Key + "=" + value.Value;
            }
        }

        private static string Get(string name)
        {
            string value;
            if (!s_values.TryGetValue(name, out value))
            {
                throw new ArgumentException("no argument " + name + "=...");
            }
            return value;
        }
    }
}

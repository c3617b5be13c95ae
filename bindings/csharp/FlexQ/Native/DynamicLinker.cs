using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;

namespace FlexQ.Internal
{
    /// <summary>dlopen and its kin, which every runtime on Linux can reach.</summary>
    internal static class DynamicLinker
    {
        private const string Libdl = "libdl.so.2";
        private const int Now = 2;

        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        private delegate int IntFunction();

        /// <summary>Loads a library by path or by soname; zero, with a line in tried, when that
        /// fails.</summary>
        internal static IntPtr Open(string path, List<string> tried)
        {
            IntPtr handle = dlopen(Utf8.Name(path, "path"), Now);
            if (handle == IntPtr.Zero)
            {
                IntPtr error = dlerror();
                tried.Add(path + ": "
                    + (error == IntPtr.Zero ? "dlopen failed" : Utf8.Name(error)));
            }
            return handle;
        }

        /// <summary>Calls a function without parameters; null where the library has none of that
        /// name.</summary>
        internal static int? CallForInt(IntPtr library, string function)
        {
            IntPtr address = dlsym(library, Utf8.Name(function, "function"));
            if (address == IntPtr.Zero)
            {
                return null;
            }
            return Marshal.GetDelegateForFunctionPointer<IntFunction>(address)();
        }

        internal static void Close(IntPtr library)
        {
            dlclose(library);
        }

        [DllImport(Libdl)]
        private static extern IntPtr dlopen(byte[] path, int flags);

        [DllImport(Libdl)]
        private static extern IntPtr dlsym(IntPtr library, byte[] name);

        [DllImport(Libdl)]
        private static extern IntPtr dlerror();

        [DllImport(Libdl)]
        private static extern int dlclose(IntPtr library);
    }
}

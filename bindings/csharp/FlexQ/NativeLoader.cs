using System;
using System.Collections.Generic;
using System.IO;
using System.Reflection;
using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>Finds and loads libflexq.so.0 and libflexq_csharp.so, once per process, before
    /// anything native is called. Thread-safe. Where it looks, in this order:
    /// <list type="number">
    /// <item><description><see cref="LibraryPath"/>, else the environment variable
    /// FLEXQ_LIBRARY_PATH: a folder; when one is given nothing else is tried</description></item>
    /// <item><description>beside FlexQ.dll, and in runtimes/linux-x64/native of the application or
    /// of an unpacked package</description></item>
    /// <item><description>the resources of the assembly FlexQ.Natives, where the application has
    /// one: extracted to a fresh folder that only this user can read, deleted when the process
    /// ends</description></item>
    /// <item><description>where the system looks for shared libraries</description></item>
    /// </list></summary>
    public static class NativeLoader
    {
        private const string Variable = "FLEXQ_LIBRARY_PATH";
        private const string Library = "libflexq.so.0";
        private const string Wrapper = "libflexq_csharp.so";
        private const string ResourceAssembly = "FlexQ.Natives";

        private static readonly object s_lock = new object();
        private static volatile bool s_loaded;
        private static string s_libraryPath;
        private static string s_loadedFrom;

        /// <summary>The folder to load from, or null (the default). Set it before the first use of
        /// anything else.</summary>
        /// <exception cref="InvalidOperationException">The libraries are loaded already.
        /// </exception>
        public static string LibraryPath
        {
            get
            {
                return s_libraryPath;
            }

            set
            {
                lock (s_lock)
                {
                    if (s_loaded)
                    {
                        throw new InvalidOperationException(
                            "the native libraries are loaded already, from " + s_loadedFrom);
                    }
                    s_libraryPath = value;
                }
            }
        }

        /// <summary>The folder that the libraries were loaded from; "the system" where the system
        /// found them. Loads them if need be.</summary>
        /// <exception cref="DllNotFoundException">As <see cref="Load"/>.</exception>
        public static string LoadedFrom
        {
            get
            {
                Load();
                return s_loadedFrom;
            }
        }

        /// <summary>Loads the libraries if they are not loaded yet. Everything in this namespace
        /// does so by itself; to call it first shows early whether it works. After a failure the
        /// next call tries again.</summary>
        /// <exception cref="DllNotFoundException">No library was found (the message lists every
        /// path that was tried and why not), or it has another ABI version (the message has both
        /// numbers).</exception>
        public static void Load()
        {
            if (s_loaded)
            {
                return;
            }
            lock (s_lock)
            {
                if (s_loaded)
                {
                    return;
                }
                var tried = new List<string>();
                s_loadedFrom = LoadFromFirst(tried);
                if (s_loadedFrom == null)
                {
                    throw new DllNotFoundException(
                        Library + " and " + Wrapper + " could not be loaded; tried:\n  "
                        + string.Join("\n  ", tried));
                }
                s_loaded = true;
            }
        }

        /// <summary>For calls that may be the first into the library. Mono binds a native function
        /// when it compiles the method that calls it, so that call must be in a method that is
        /// compiled after Load has run: in this delegate.</summary>
        internal static T Call<T>(Func<T> call)
        {
            Load();
            return call();
        }

        /// <summary>The same without a result.</summary>
        internal static void Call(Action call)
        {
            Load();
            call();
        }

        private static string LoadFromFirst(List<string> tried)
        {
            string origin = "NativeLoader.LibraryPath";
            string given = s_libraryPath;
            if (string.IsNullOrEmpty(given))
            {
                origin = Variable;
                given = Environment.GetEnvironmentVariable(Variable);
            }
            if (!string.IsNullOrEmpty(given))
            {
                tried.Add("(only what " + origin + " says: " + given + ")");
                return LoadFromFolder(Path.GetFullPath(given), tried);
            }

            foreach (string folder in FoldersBesideAssembly())
            {
                string found = LoadFromFolder(folder, tried);
                if (found != null)
                {
                    return found;
                }
            }
            return LoadFromResources(tried) ?? LoadFromSystem(tried);
        }

        private static IEnumerable<string> FoldersBesideAssembly()
        {
            string location = typeof(NativeLoader).Assembly.Location;
            string folder = string.IsNullOrEmpty(location)
                ? AppDomain.CurrentDomain.BaseDirectory
                : Path.GetDirectoryName(location);
            string natives = Path.Combine("runtimes", "linux-x64", "native");
            yield return folder;
            yield return Path.Combine(folder, natives);
            // lib/netstandard2.0/FlexQ.dll of an unpacked package.
            yield return Path.GetFullPath(Path.Combine(folder, "..", "..", natives));
        }

        private static string LoadFromFolder(string folder, List<string> tried)
        {
            string library = Path.Combine(folder, Library);
            string wrapper = Path.Combine(folder, Wrapper);
            foreach (string path in new[] { library, wrapper })
            {
                if (!File.Exists(path))
                {
                    tried.Add(path + ": no such file");
                    return null;
                }
            }
            return LoadBoth(library, wrapper, tried) ? folder : null;
        }

        private static string LoadFromSystem(List<string> tried)
        {
            return LoadBoth(Library, Wrapper, tried) ? "the system" : null;
        }

        private static string LoadFromResources(List<string> tried)
        {
            Assembly natives;
            try
            {
                natives = Assembly.Load(ResourceAssembly);
            }
            catch (Exception failure)
                when (failure is IOException || failure is BadImageFormatException)
            {
                tried.Add("assembly " + ResourceAssembly + ": not found");
                return null;
            }
            string folder = Extraction.ToFreshFolder(natives);
            return LoadFromFolder(folder, tried);
        }

        /// <summary>libflexq first: the wrapper then finds it by its soname, and no call is made
        /// into one of another ABI.</summary>
        private static bool LoadBoth(string library, string wrapper, List<string> tried)
        {
            IntPtr libraryHandle = DynamicLinker.Open(library, tried);
            if (libraryHandle == IntPtr.Zero)
            {
                return false;
            }
            RefuseOtherAbi(libraryHandle, library);
            IntPtr wrapperHandle = DynamicLinker.Open(wrapper, tried);
            if (wrapperHandle == IntPtr.Zero)
            {
                return false;
            }
            ImportResolver.Use(wrapper, wrapperHandle);
            return true;
        }

        private static void RefuseOtherAbi(IntPtr libraryHandle, string library)
        {
            int? found = DynamicLinker.CallForInt(libraryHandle, "flexq_abi_version");
            if (found != FlexqNative.FLEXQ_ABI_VERSION)
            {
                DynamicLinker.Close(libraryHandle);
                throw new DllNotFoundException(string.Format(
                    "{0} has ABI version {1}, FlexQ.dll was built for ABI version {2}",
                    library, found.HasValue ? found.ToString() : "unknown",
                    FlexqNative.FLEXQ_ABI_VERSION));
            }
        }
    }
}

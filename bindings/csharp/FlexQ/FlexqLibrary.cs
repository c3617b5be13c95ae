using System;
using System.Runtime.InteropServices;
using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>The native library as a whole: version, build, log, memory. Thread-safe.</summary>
    public static class FlexqLibrary
    {
        private static readonly object s_lock = new object();
        private static readonly flexq_log_callback s_onLog = OnLog;
        private static readonly flexq_allocate_callback s_onAllocate = OnAllocate;
        private static readonly flexq_free_callback s_onFree = OnFree;

        private static GCHandle s_log;

        /// <summary>"MAJOR.MINOR.PATCH".</summary>
        public static string Version
        {
            get { return NativeLoader.Call(() => Utf8.Name(FlexqNative.flexq_version())); }
        }

        /// <summary>The ABI of the library that is loaded; the loader has compared it with
        /// <see cref="RequiredAbiVersion"/>.</summary>
        public static int AbiVersion
        {
            get { return NativeLoader.Call(() => FlexqNative.flexq_abi_version()); }
        }

        /// <summary>The ABI this assembly was built for.</summary>
        public static int RequiredAbiVersion
        {
            get { return FlexqNative.FLEXQ_ABI_VERSION; }
        }

        /// <summary>Lines of "key: value": compiler, kernel sets, CUDA, library versions.</summary>
        public static string BuildInfo
        {
            get { return NativeLoader.Call(() => Utf8.Name(FlexqNative.flexq_build_info())); }
        }

        /// <summary>Sets the callback of the process for log messages, or takes it away. When the
        /// call returns no thread is inside the old one any more.</summary>
        /// <param name="log">Called by any thread that is inside the library; null: silence. It
        /// must not call SetLog; what it throws is lost.</param>
        /// <param name="maxLevel">The least important messages wanted.</param>
        /// <exception cref="FlexqException">InvalidArgument (maxLevel).</exception>
        public static void SetLog(
            Action<LogLevel, string> log, LogLevel maxLevel = LogLevel.Info)
        {
            lock (s_lock)
            {
                GCHandle old = s_log;
                GCHandle handle = log == null ? default(GCHandle) : GCHandle.Alloc(log);
                try
                {
                    NativeLoader.Call(() => FlexqNative.flexq_set_log_callback(
                        log == null ? null : s_onLog, (int)maxLevel,
                        log == null ? IntPtr.Zero : GCHandle.ToIntPtr(handle)));
                    s_log = handle;
                }
                catch
                {
                    old = handle;
                    throw;
                }
                finally
                {
                    if (old.IsAllocated)
                    {
                        old.Free();
                    }
                }
            }
        }

        /// <summary>Sets where the large host buffers of the process come from: weights, KV cache,
        /// workspaces, staging. Only while none is in use: before the first load, or after the last
        /// model and context are disposed.</summary>
        /// <param name="allocate">Called by any thread, several at once; null: the C library. Where
        /// it throws there is no memory.</param>
        /// <param name="free">Null where allocate is. It must not throw.</param>
        /// <exception cref="FlexqException">InvalidState (buffers in use), InvalidArgument (only
        /// one of the two).</exception>
        public static void SetAllocator(AllocateCallback allocate, FreeCallback free)
        {
            if (allocate == null && free == null)
            {
                NativeLoader.Call(() => FlexqNative.flexq_set_allocator(null, null, IntPtr.Zero));
                return;
            }
            // Never freed: what such a pair allocated may be given back at any later time.
            GCHandle pair = GCHandle.Alloc(Tuple.Create(allocate, free));
            try
            {
                NativeLoader.Call(() => FlexqNative.flexq_set_allocator(
                    allocate == null ? null : s_onAllocate, free == null ? null : s_onFree,
                    GCHandle.ToIntPtr(pair)));
            }
            catch
            {
                pair.Free();
                throw;
            }
        }

        private static void OnLog(int level, IntPtr text, long textBytes, IntPtr userData)
        {
            try
            {
                var log = (Action<LogLevel, string>)GCHandle.FromIntPtr(userData).Target;
                log((LogLevel)level, Utf8.Text(text, textBytes));
            }
            catch (Exception)
            {
                // No caller of the library asked for this message: there is nobody to throw to.
            }
        }

        private static Tuple<AllocateCallback, FreeCallback> Allocator(IntPtr userData)
        {
            return (Tuple<AllocateCallback, FreeCallback>)GCHandle.FromIntPtr(userData).Target;
        }

        private static IntPtr OnAllocate(long byteCount, long alignment, IntPtr userData)
        {
            try
            {
                return Allocator(userData).Item1(byteCount, alignment);
            }
            catch (Exception)
            {
                return IntPtr.Zero;
            }
        }

        private static void OnFree(IntPtr memory, long byteCount, IntPtr userData)
        {
            try
            {
                Allocator(userData).Item2(memory, byteCount);
            }
            catch (Exception)
            {
                // Freeing has no way to fail; the memory is lost.
            }
        }
    }
}

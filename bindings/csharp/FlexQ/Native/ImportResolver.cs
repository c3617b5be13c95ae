using System;
using System.Reflection;
using System.Runtime.InteropServices;

namespace FlexQ.Internal
{
    /// <summary>Points [DllImport("flexq_csharp")] at the library that the loader chose, so that no
    /// other one of that name, on whatever path, is called instead.</summary>
    internal static class ImportResolver
    {
        private const string ImportName = "flexq_csharp";

        private static IntPtr s_wrapper;

        internal static void Use(string path, IntPtr wrapper)
        {
            s_wrapper = wrapper;
            if (Type.GetType("Mono.Runtime") != null)
            {
                mono_dllmap_insert(IntPtr.Zero, Utf8.Name(ImportName, "name"), null,
                    Utf8.Name(path, "path"), null);
            }
            else
            {
                SetResolver();
            }
        }

        /// <summary>NativeLibrary.SetDllImportResolver, which netstandard2.0 has no name for.
        /// Runtimes without it find the wrapper by its soname, since it is loaded.</summary>
        private static void SetResolver()
        {
            const string assembly = ", System.Runtime.InteropServices";
            const string space = "System.Runtime.InteropServices.";
            Type nativeLibrary = Type.GetType(space + "NativeLibrary" + assembly);
            Type resolverType = Type.GetType(space + "DllImportResolver" + assembly);
            if (nativeLibrary == null || resolverType == null)
            {
                return;
            }
            MethodInfo resolve = typeof(ImportResolver).GetMethod(
                "Resolve", BindingFlags.NonPublic | BindingFlags.Static);
            nativeLibrary.GetMethod("SetDllImportResolver").Invoke(null, new object[]
            {
                typeof(ImportResolver).Assembly,
                Delegate.CreateDelegate(resolverType, resolve),
            });
        }

        private static IntPtr Resolve(string name, Assembly assembly, DllImportSearchPath? path)
        {
            return name == ImportName ? s_wrapper : IntPtr.Zero;
        }

        [DllImport("__Internal")]
        private static extern void mono_dllmap_insert(
            IntPtr assembly, byte[] dll, byte[] function, byte[] targetDll, byte[] targetFunction);
    }
}

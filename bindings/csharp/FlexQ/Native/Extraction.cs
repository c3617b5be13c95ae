using System;
using System.IO;
using System.Reflection;
using System.Runtime.InteropServices;

namespace FlexQ.Internal
{
    /// <summary>Native libraries that travel as resources of an assembly.</summary>
    internal static class Extraction
    {
        /// <summary>Writes every resource under its name to a new folder that only this user can
        /// read. The folder goes when the process ends: libflexq may open a backend that lies
        /// beside it at any time before.</summary>
        internal static string ToFreshFolder(Assembly assembly)
        {
            byte[] template = Utf8.Name(Path.Combine(Path.GetTempPath(), "flexq-XXXXXX"), "path");
            GCHandle pinned = GCHandle.Alloc(template, GCHandleType.Pinned);
            try
            {
                if (mkdtemp(pinned.AddrOfPinnedObject()) == IntPtr.Zero)
                {
                    throw new IOException("no folder could be made in " + Path.GetTempPath());
                }
            }
            finally
            {
                pinned.Free();
            }
            string folder = Utf8.Text(template).TrimEnd('\0');
            AppDomain.CurrentDomain.ProcessExit += (sender, arguments) => Delete(folder);

            foreach (string name in assembly.GetManifestResourceNames())
            {
                using (Stream resource = assembly.GetManifestResourceStream(name))
                using (Stream file = File.Create(Path.Combine(folder, name)))
                {
                    resource.CopyTo(file);
                }
            }
            return folder;
        }

        private static void Delete(string folder)
        {
            try
            {
                Directory.Delete(folder, true);
            }
            catch (IOException)
            {
                // Gone already, or not ours any more: a process at its end can do nothing.
            }
        }

        [DllImport("libc.so.6")]
        private static extern IntPtr mkdtemp(IntPtr template);
    }
}

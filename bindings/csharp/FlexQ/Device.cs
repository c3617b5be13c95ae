using System.Collections.Generic;
using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>The devices this process can use. Thread-safe.</summary>
    public static class Device
    {
        /// <summary>Devices, at least 1: the first is always the CPU.</summary>
        public static int Count
        {
            get { return NativeLoader.Call(() => FlexqNative.flexq_device_count()); }
        }

        /// <summary>What a device is, at the time of the call.</summary>
        /// <param name="index">From 0 to <see cref="Count"/> - 1.</param>
        /// <returns>The device.</returns>
        /// <exception cref="FlexqException">InvalidArgument.</exception>
        public static DeviceInfo Info(int index)
        {
            return NativeLoader.Call(() =>
            {
                using (var info = new flexq_device_info())
                {
                    FlexqNative.flexq_device_get_info(index, info);
                    return new DeviceInfo(info);
                }
            });
        }

        /// <summary>All devices.</summary>
        /// <returns>In the order of their indices.</returns>
        public static IReadOnlyList<DeviceInfo> All()
        {
            var devices = new DeviceInfo[Count];
            for (int i = 0; i < devices.Length; i++)
            {
                devices[i] = Info(i);
            }
            return devices;
        }
    }
}

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Reflection.Emit;
using System.Text.RegularExpressions;

namespace FlexQ.Coverage
{
    /// <summary>Compares what flexq.h declares with what FlexQ.dll reaches, by reading the code of
    /// its methods: FlexQ.Coverage.exe flexq.h FlexQ.dll. Every function must be called, every
    /// field of a struct read, every enumerator be a value of a public enumeration, from what was
    /// written by hand.</summary>
    internal static class CoverageProgram
    {
        private const BindingFlags All = BindingFlags.Instance | BindingFlags.Static
            | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly;

        private static readonly Dictionary<short, OpCode> s_opCodes = typeof(OpCodes).GetFields()
            .Select(field => (OpCode)field.GetValue(null)).ToDictionary(code => code.Value);

        private static int Main(string[] arguments)
        {
            string header = File.ReadAllText(arguments[0]);
            Assembly assembly = Assembly.LoadFrom(Path.GetFullPath(arguments[1]));
            Type[] types = assembly.GetTypes();
            var called = new HashSet<string>(types.Where(type => !IsGenerated(type))
                .SelectMany(type => type.GetMethods(All).Cast<MethodBase>()
                    .Concat(type.GetConstructors(All)))
                .SelectMany(Calls));

            string[] functions = Functions(header);
            string[] fields = Fields(header);
            var missing = new List<string>();
            missing.AddRange(functions.Where(name => !called.Contains("FlexqNative." + name)));
            missing.AddRange(fields.Where(name => !called.Contains(name.Replace(".", ".get_"))));
            missing.AddRange(Enumerators(header)
                .Where(one => !IsInPublicEnum(one.Key, one.Value, types))
                .Select(one => one.Key));

            foreach (string name in missing)
            {
                Console.WriteLine("flexq.h has it, the binding does not reach it: " + name);
            }
            Console.WriteLine("{0} functions, {1} fields, {2} enumerators; {3} not reached",
                functions.Length, fields.Length, Enumerators(header).Count, missing.Count);
            bool read = functions.Length > 100 && fields.Length > 60;
            return read && missing.Count == 0 ? 0 : 1;
        }

        private static bool IsGenerated(Type type)
        {
            return type.Name.StartsWith("FlexqNative") || type.Name.StartsWith("flexq_");
        }

        private static string[] Functions(string header)
        {
            return Regex.Matches(
                header, @"^FLEXQ_API [^;(]*?\b(flexq_\w+)\(", RegexOptions.Multiline)
                .Cast<Match>().Select(match => match.Groups[1].Value).ToArray();
        }

        /// <summary>struct.field of all but struct_size and reserved.</summary>
        private static string[] Fields(string header)
        {
            return Regex.Matches(
                header, @"typedef struct (\w+) \{(.*?)\n\}", RegexOptions.Singleline)
                .Cast<Match>().SelectMany(match => Regex.Matches(
                    Regex.Replace(match.Groups[2].Value, @"/\*.*?\*/", "", RegexOptions.Singleline),
                    @"(\w+)(\[\d+\])?;").Cast<Match>()
                    .Select(field => field.Groups[1].Value)
                    .Where(field => field != "struct_size" && field != "reserved")
                    .Select(field => match.Groups[1].Value + "." + field)).ToArray();
        }

        private static Dictionary<string, int> Enumerators(string header)
        {
            return Regex.Matches(header, @"\b(FLEXQ_[A-Z_]+) = (-?\d+)").Cast<Match>()
                .ToDictionary(match => match.Groups[1].Value,
                    match => int.Parse(match.Groups[2].Value));
        }

        /// <summary>FLEXQ_FINISH_LENGTH is the value Length, with the same number, of a public
        /// enumeration. FLEXQ_OK is no failure, so it has no exception.</summary>
        private static bool IsInPublicEnum(string enumerator, int value, Type[] types)
        {
            string[] words = enumerator.Split('_').Skip(1).Select(word => word.ToLower()).ToArray();
            string name = string.Concat(words.Skip(1));
            return enumerator == "FLEXQ_OK" || types
                .Where(type => type.IsEnum && type.IsPublic)
                .Any(type => Enum.GetNames(type).Any(one => one.ToLower() == name
                    && Convert.ToInt32(Enum.Parse(type, one)) == value));
        }

        /// <summary>"Type.Method" of everything that the code of a method calls or takes the
        /// address of.</summary>
        private static IEnumerable<string> Calls(MethodBase method)
        {
            MethodBody body = method.GetMethodBody();
            if (body == null)
            {
                yield break;
            }
            byte[] code = body.GetILAsByteArray();
            Type[] typeArguments = method.DeclaringType.IsGenericType
                ? method.DeclaringType.GetGenericArguments() : null;
            Type[] methodArguments = method.IsGenericMethod ? method.GetGenericArguments() : null;
            for (int at = 0; at < code.Length;)
            {
                short value = code[at++];
                if (value == 0xfe)
                {
                    value = (short)(0xfe00 | code[at++]);
                }
                OpCode opCode = s_opCodes[value];
                if (opCode.OperandType == OperandType.InlineMethod)
                {
                    MethodBase callee = method.Module.ResolveMethod(
                        BitConverter.ToInt32(code, at), typeArguments, methodArguments);
                    yield return callee.DeclaringType.Name + "." + callee.Name;
                }
                at += OperandBytes(opCode, code, at);
            }
        }

        private static int OperandBytes(OpCode opCode, byte[] code, int at)
        {
            switch (opCode.OperandType)
            {
                case OperandType.InlineNone:
                    return 0;
                case OperandType.ShortInlineBrTarget:
                case OperandType.ShortInlineI:
                case OperandType.ShortInlineVar:
                    return 1;
                case OperandType.InlineVar:
                    return 2;
                case OperandType.InlineI8:
                case OperandType.InlineR:
                    return 8;
                case OperandType.InlineSwitch:
                    return 4 + (4 * BitConverter.ToInt32(code, at));
                default:
                    return 4;
            }
        }
    }
}

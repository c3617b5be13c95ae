using System;
using System.Collections;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Threading;
using System.Threading.Tasks;
using FlexQ.Internal;

namespace FlexQ.Tests
{
    internal static class CloseScenarios
    {
        [Scenario("use_after_close")]
        private static void UseAfterClose()
        {
            int methods = 0;
            foreach (IDisposable closed in OneOfEach())
            {
                closed.Dispose();
                Type type = closed.GetType();
                foreach (MethodInfo method in PublicMethods(type))
                {
                    methods++;
                    var thrown = Check.Throws<ObjectDisposedException>(
                        () => Invoke(closed, method), type.Name + "." + method.Name);
                    Check.Equal(type.Name, thrown.ObjectName, "object of " + method.Name);
                }
            }
            Check.True(methods > 50, "methods called: " + methods);
            AsArguments();
        }

        /// <summary>An object of every public class that can be disposed.</summary>
        private static List<IDisposable> OneOfEach()
        {
            Model model = Model.Load(Settings.Stories);
            Context context = model.CreateContext();
            Source source = Source.Open(Settings.Stories);
            Context served = model.CreateContext();
            Engine engine = served.CreateEngine();
            served.Dispose();
            var objects = new List<IDisposable>
            {
                context.CreateGenerator(), context, model.CreateTokenizer(), model,
                engine.Submit(Shared.Prompt), engine,
                Bundle.Open(source), source, new Batch(), new Chat(), new Continuations(),
                Questions.Open("piqa", Path.Combine(
                    Settings.SourceTree, "tests/data/choice/piqa.jsonl")),
            };
            string[] all = typeof(Model).Assembly.GetExportedTypes()
                .Where(type => typeof(IDisposable).IsAssignableFrom(type))
                .Select(type => type.Name).OrderBy(name => name).ToArray();
            Check.Same(all, objects.Select(one => one.GetType().Name).OrderBy(name => name),
                "classes that can be disposed");
            return objects;
        }

        private static IEnumerable<MethodInfo> PublicMethods(Type type)
        {
            const BindingFlags own = BindingFlags.Instance | BindingFlags.Public
                | BindingFlags.DeclaredOnly;
            // Count is kept in C# and stays readable.
            return type.GetMethods(own).Where(method =>
                method.Name != "Dispose"
                && !(type == typeof(Continuations) && method.Name == "get_Count"));
        }

        /// <summary>Calls with plausible arguments; enumerates and awaits what comes
        /// back.</summary>
        private static void Invoke(object target, MethodInfo method)
        {
            object[] arguments = method.GetParameters().Select(Argument).ToArray();
            try
            {
                object result = method.Invoke(target, arguments);
                var task = result as Task;
                if (task != null)
                {
                    task.GetAwaiter().GetResult();
                }
                else if (result is IEnumerable && !(result is string))
                {
                    ((IEnumerable)result).GetEnumerator().MoveNext();
                }
            }
            catch (TargetInvocationException thrown)
            {
                throw thrown.InnerException;
            }
            finally
            {
                foreach (IDisposable argument in arguments.OfType<IDisposable>())
                {
                    argument.Dispose();
                }
            }
        }

        private static object Argument(ParameterInfo parameter)
        {
            Type type = parameter.ParameterType;
            if (type == typeof(string))
            {
                return "user";
            }
            if (type == typeof(byte[]))
            {
                return new byte[] { 1 };
            }
            if (type == typeof(int[]))
            {
                return new[] { 1 };
            }
            if (type == typeof(Func<TokenEvent, bool>))
            {
                return new Func<TokenEvent, bool>(next => true);
            }
            if (type == typeof(Batch) || type == typeof(Chat) || type == typeof(Continuations))
            {
                return Activator.CreateInstance(type);
            }
            return type.IsValueType ? Activator.CreateInstance(type) : null;
        }

        private static void AsArguments()
        {
            Source source = Source.Open(Settings.Stories);
            Model model = Model.Load(source);
            Questions questions = Questions.Open("piqa", Path.Combine(
                Settings.SourceTree, "tests/data/choice/piqa.jsonl"));
            Chat chat = new Chat();
            Batch batch = new Batch();
            Tokenizer tokenizer = model.CreateTokenizer();
            foreach (IDisposable one in new IDisposable[]
            {
                source, model, questions, chat, batch, tokenizer,
            })
            {
                one.Dispose();
            }
            Closed("Source", () => Model.Load(source));
            Closed("Source", () => Model.Plan(source));
            Closed("Source", () => Tokenizer.Open(source));
            Closed("Source", () => Bundle.Open(source));
            Closed("Source", () => source.RequireKey(""));
            Closed("Model", () => Evaluation.Perplexity(model, "text", 16));
            Closed("Model", () => Evaluation.Compare(Shared.Stories, model, "text", 16));
            Closed("Questions", () => Evaluation.Choices(Shared.Stories, questions));
            using (Tokenizer open = Shared.Stories.CreateTokenizer())
            using (Context context = Shared.Stories.CreateContext())
            {
                Closed("Chat", () => open.EncodeChat(chat, "chatml"));
                Closed("Batch", () => context.Decode(batch));
                var options = new GeneratorOptions();
                options.AddChatStops(tokenizer, "chatml");
                Closed("Tokenizer", () => context.CreateGenerator(options));
                using (Engine engine = context.CreateEngine())
                {
                    Closed("Tokenizer", () => engine.Submit(Shared.Prompt, options));
                    Closed("Chat", () => engine.SubmitChat(chat, "vicuna"));
                }
            }
        }

        private static void Closed(string name, Action call)
        {
            var thrown = Check.Throws<ObjectDisposedException>(call, name + " as an argument");
            Check.Equal(name, thrown.ObjectName, "object");
        }

        [Scenario("close_twice")]
        private static void CloseTwice()
        {
            long before = NativeHandle.OpenCount;
            foreach (IDisposable one in OneOfEach())
            {
                one.Dispose();
                one.Dispose();
            }
            Check.Equal(before, NativeHandle.OpenCount, "native handles");

            // Eight threads at once: one of them releases.
            for (int i = 0; i < 100; i++)
            {
                var chat = new Chat();
                Parallel.For(0, 8, one => chat.Dispose());
            }
            Check.Equal(before, NativeHandle.OpenCount, "native handles");
        }

        [Scenario("close_while_generating")]
        private static void CloseWhileGenerating()
        {
            long before = NativeHandle.OpenCount;
            for (int round = 0; round < 40; round++)
            {
                CloseDuringRun(round);
            }
            // Closing the generator ended the run; what another closed goes on to its end.
            Check.Equal(before, NativeHandle.OpenCount, "native handles");
        }

        /// <summary>Round by round another of model, context and generator is closed first, at
        /// another token.</summary>
        private static void CloseDuringRun(int round)
        {
            Model model = Model.Load(
                Settings.Stories, new ModelOptions { Threads = 1 + (round % 2) });
            Context context = model.CreateContext();
            Generator generator = Shared.Started(context, 60);
            var disposables = new IDisposable[] { model, context, generator };
            using (var reached = new ManualResetEventSlim())
            {
                int events = 0;
                Task<FinishReason> run = generator.RunAsync(next =>
                {
                    if (++events == round + 1)
                    {
                        reached.Set();
                    }
                });
                Check.True(reached.Wait(60000), "token " + (round + 1));
                for (int i = 0; i < 3; i++)
                {
                    disposables[(round + i) % 3].Dispose();
                    Thread.Sleep(round % 4 == 0 ? 1 : 0);
                }
                try
                {
                    Check.Equal(FinishReason.Length, run.Result, "a run that was quicker");
                }
                catch (AggregateException thrown)
                {
                    var failure = thrown.InnerException as FlexqException;
                    Check.True(failure != null && failure.Code == ErrorCode.Cancelled,
                        "ends normally or cancelled, found " + thrown.InnerException);
                }
            }
        }
    }
}

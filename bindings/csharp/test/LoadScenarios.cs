using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text;
using System.Threading;
using System.Threading.Tasks;

namespace FlexQ.Tests
{
    internal static class LoadScenarios
    {
        [Scenario("load_from_path")]
        private static void FromPath()
        {
            var options = new ModelOptions { Threads = 2 };
            var contextOptions = new ContextOptions { ContextTokens = 128, Sequences = 3 };
            using (Source source = Source.Open(Settings.Stories))
            {
                ModelPlan planned = Model.Plan(source, options, contextOptions);
                using (Model model = Model.Load(source, options))
                using (Context context = model.CreateContext(contextOptions))
                {
                    SamePlan(planned, context.Plan);
                    Check.Equal(128, planned.ContextTokens, "context tokens");
                    Check.Equal(3, planned.Sequences, "sequences");
                    Check.Equal(planned.WeightBytes, model.Info.WeightBytes, "weight bytes");
                    CheckInfo(model.Info);
                    CheckTensors(model);
                    Check.True(model.IsEndToken(2), "</s> ends a text");
                    Check.True(!model.IsEndToken(5), "a byte ends no text");
                }
            }
            Check.Equal(DeviceKind.Cpu, Device.Info(0).Kind, "device 0");
            Check.Equal(Device.Count, Device.All().Count, "devices");
            Check.Equal("cpu", Device.All()[0].Id, "id of device 0");
            Check.True(Device.Info(0).TotalMemoryBytes > 1 << 20, "memory of device 0");
            Check.Fails(ErrorCode.InvalidArgument, "INVALID_ARGUMENT", "",
                () => Device.Info(1000), "a device that is not there");
        }

        [Scenario("load_from_memory")]
        private static void FromMemory()
        {
            int[] expected = Shared.Answer(Shared.Stories, Shared.Prompt, 16);
            byte[] bytes = File.ReadAllBytes(Settings.Stories);
            using (Source source = Source.FromMemory(bytes))
            using (Model model = Model.Load(source))
            {
                Check.Same(expected, Shared.Answer(model, Shared.Prompt, 16), "from memory");
            }

            int calls = 0;
            ReadCallback read = (offset, buffer, count) =>
            {
                Interlocked.Increment(ref calls);
                Array.Copy(bytes, offset, buffer, 0, count);
            };
            using (Source source = Source.FromReader(bytes.Length, read))
            using (Model model = Model.Load(source))
            {
                Check.Same(expected, Shared.Answer(model, Shared.Prompt, 16), "by callbacks");
                Check.True(calls > 0, "the callback was called");
                // Threads of the library ran managed code: the collector must be able to stop them.
                GC.Collect();
            }
            using (FileStream file = File.OpenRead(Settings.Stories))
            using (Source source = Source.FromStream(file))
            using (Model model = Model.Load(source))
            {
                Check.Same(expected, Shared.Answer(model, Shared.Prompt, 16), "from a stream");
            }
            ReaderThatThrows(bytes);
        }

        private static void ReaderThatThrows(byte[] bytes)
        {
            var thrown = new InvalidOperationException("the archive is closed");
            int calls = 0;
            ReadCallback read = (offset, buffer, count) =>
            {
                if (Interlocked.Increment(ref calls) > 2)
                {
                    throw thrown;
                }
                Array.Copy(bytes, offset, buffer, 0, count);
            };
            using (Source source = Source.FromReader(bytes.Length, read))
            {
                var caught = Check.Throws<InvalidOperationException>(
                    () => Model.Load(source), "a reader that throws");
                Check.True(ReferenceEquals(thrown, caught), "the exception is the one thrown");
            }
        }

        [Scenario("load_progress")]
        private static void Progress()
        {
            var seen = new List<long>();
            long whole = 0;
            var options = new ModelOptions
            {
                Progress = (done, total) =>
                {
                    seen.Add(done);
                    whole = total;
                    return true;
                },
            };
            using (Model.Load(Settings.Stories, options))
            {
                Check.True(whole > 0, "a total");
                Check.Equal(whole, seen.Last(), "done in the last call");
                Check.Same(seen.OrderBy(done => done), seen, "done never falls");
            }
        }

        [Scenario("load_cancel")]
        private static void Cancel()
        {
            using (Source source = Source.Open(Settings.Stories))
            {
                var options = new ModelOptions { Progress = (done, total) => false };
                Check.Fails(ErrorCode.Cancelled, "CANCELLED", "",
                    () => Model.Load(source, options), "a load that is stopped");

                var boom = new FormatException("thrown by progress");
                options.Progress = (done, total) => { throw boom; };
                var caught = Check.Throws<FormatException>(
                    () => Model.Load(source, options), "progress that throws");
                Check.True(ReferenceEquals(boom, caught), "the exception is the one thrown");

                CancelledTask(source);
                options.Progress = null;
                using (Model model = Model.Load(source, options))
                {
                    Check.Equal(5, model.Info.Layers, "layers of the next load");
                }
                using (Model model = Model.LoadAsync(source).Result)
                {
                    Check.Equal(5, model.Info.Layers, "layers of an asynchronous load");
                }
            }
        }

        private static void CancelledTask(Source source)
        {
            using (var cancellation = new CancellationTokenSource())
            {
                var options = new ModelOptions
                {
                    Progress = (done, total) =>
                    {
                        cancellation.Cancel();
                        return true;
                    },
                };
                Task<Model> load = Model.LoadAsync(source, options, cancellation.Token);
                Check.Throws<AggregateException>(() => load.Wait(), "a cancelled load");
                Check.Equal(TaskStatus.Canceled, load.Status, "status of a cancelled load");
            }
        }

        [Scenario("load_errors")]
        private static void Errors()
        {
            Check.Fails(ErrorCode.NotFound, "NOT_FOUND", "/nowhere/é.flexq",
                () => Model.Load("/nowhere/é.flexq"), "a missing path");
            Check.Throws<ArgumentException>(() => Model.Load("a\0b"), "a path with a zero");
            Check.Throws<ArgumentNullException>(() => Source.FromMemory(null), "no bytes");
            Check.Fails(ErrorCode.InvalidArgument, "INVALID_ARGUMENT", "path",
                () => Source.Open(null), "no path");

            byte[] damaged = File.ReadAllBytes(Settings.Stories);
            damaged[damaged.Length / 2] ^= 1;
            using (Source source = Source.FromMemory(damaged))
            {
                Check.Fails(ErrorCode.Corrupt, "CORRUPT", "",
                    () => Model.Load(source), "a damaged bundle");
            }
            Check.Fails(ErrorCode.UnsupportedValue, "UNSUPPORTED_VALUE", "llama-9",
                () => Source.Synthetic("llama-9"), "an unknown shape");
            using (Source source = Source.Synthetic("llama-2-7b"))
            {
                Check.True(Model.Plan(source).WeightBytes > 1L << 32, "a plan beyond 32 bits");
            }
        }

        [Scenario("options_errors")]
        private static void OptionsErrors()
        {
            using (Source source = Source.Open(Settings.Stories))
            {
                Check.Fails(ErrorCode.UnknownOption, "UNKNOWN_OPTION", "no.such",
                    () => Model.Load(source, new ModelOptions { Named = { ["no.such"] = "1" } }),
                    "an unknown key");
                Check.Fails(ErrorCode.UnsupportedValue, "UNSUPPORTED_VALUE", "abacus",
                    () => Model.Load(
                        source, new ModelOptions { Named = { ["cpu.kernels"] = "abacus" } }),
                    "an unknown value");
                Check.Fails(ErrorCode.NoDevice, "NO_DEVICE", "tpu",
                    () => Model.Load(source, new ModelOptions { Device = "tpu" }),
                    "an unknown device");
                Check.Fails(ErrorCode.InvalidArgument, "INVALID_ARGUMENT", "",
                    () => Model.Load(source, new ModelOptions { Threads = -1 }),
                    "negative threads");
            }
            Check.Fails(ErrorCode.UnknownOption, "UNKNOWN_OPTION", "kv",
                () => Shared.Stories.CreateContext(new ContextOptions { Named = { ["kv"] = "" } }),
                "an unknown key of a context");
            Check.Fails(ErrorCode.InvalidArgument, "INVALID_ARGUMENT", "",
                () => Shared.Stories.CreateContext(new ContextOptions { Sequences = -1 }),
                "negative sequences");
            using (Context context = Shared.Stories.CreateContext())
            {
                var sampling = new SamplingOptions { Temperature = -1 };
                Check.Fails(ErrorCode.InvalidArgument, "INVALID_ARGUMENT", "temperature",
                    () => context.CreateGenerator(new GeneratorOptions { Sampling = sampling }),
                    "a negative temperature");
            }
        }

        [Scenario("signatures")]
        private static void Signatures()
        {
            // Of tests/support/test_keys.h: the secret key 1, 2, 3 .. 32.
            byte[] secretKey = Encoding.ASCII.GetBytes("-----BEGIN PRIVATE KEY-----\n"
                + "MC4CAQAwBQYDK2VwBCIEIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g\n"
                + "-----END PRIVATE KEY-----\n");
            const string PublicKey = "-----BEGIN PUBLIC KEY-----\n"
                + "MCowBQYDK2VwAyEAebVWLo/mVPlAeLES6KmLp5AfhTrmlb7X4OORC60ElmQ=\n"
                + "-----END PUBLIC KEY-----\n";
            const string OtherKey = "-----BEGIN PUBLIC KEY-----\n"
                + "MCowBQYDK2VwAyEAP8tC6x2WsPHIIj0ReDGUPg45+t0zK237PQyIUMMxsDg=\n"
                + "-----END PUBLIC KEY-----\n";
            const string KeyId = "79b5562e8fe654f94078b112e8a98ba7901f853ae695bed7e0e3910bad049664";
            string path = Path.GetTempFileName();
            try
            {
                File.Copy(Settings.Stories, path, overwrite: true);
                using (Source source = Source.Open(path))
                {
                    using (Bundle bundle = Bundle.Open(source))
                    {
                        Check.Equal(null, bundle.Signer(), "signer of an unsigned bundle");
                    }
                    source.RequireKey(PublicKey);
                    Check.Fails(ErrorCode.Signature, "SIGNATURE", KeyId,
                        () => Model.Load(source), "an unsigned bundle");
                    Check.Fails(ErrorCode.Cancelled, "CANCELLED", "",
                        () => Bundle.Sign(path, secretKey, 1, (done, total) => false),
                        "a signing that its progress callback stops");
                    long lastDone = 0;
                    long lastTotal = -1;
                    Bundle.Sign(path, secretKey, 0, (done, total) =>
                    {
                        lastDone = done;
                        lastTotal = total;
                        return true;
                    });
                    Check.Equal(lastTotal, lastDone, "progress at the end");
                    Check.True(lastDone > new FileInfo(path).Length, "checked and copied");
                    Model.Load(source).Dispose();
                    Tokenizer.Open(source).Dispose();
                    using (Bundle bundle = Bundle.Open(source))
                    {
                        Check.Equal(KeyId, bundle.Signer(), "signer");
                        Check.Contains(KeyId, bundle.Json(), "the signer in the JSON");
                    }
                    source.RequireKey(OtherKey);
                    Check.Fails(ErrorCode.Signature, "SIGNATURE", KeyId,
                        () => Model.Load(source), "a load with another key");
                    Check.Fails(ErrorCode.Signature, "SIGNATURE", KeyId,
                        () => Model.Plan(source), "a plan with another key");
                    Check.Fails(ErrorCode.Signature, "SIGNATURE", KeyId,
                        () => Tokenizer.Open(source), "a tokenizer with another key");
                    Check.Fails(ErrorCode.Signature, "SIGNATURE", KeyId,
                        () => Bundle.Open(source), "a bundle with another key");
                    Check.Fails(ErrorCode.InvalidArgument, "INVALID_ARGUMENT", "PUBLIC KEY",
                        () => source.RequireKey("no key"), "no key");
                }
                using (Source checkpoint = Source.Open(
                    Path.Combine(Settings.SourceTree, "samples/data/stories260k")))
                {
                    checkpoint.RequireKey(PublicKey);
                    Check.Fails(ErrorCode.Signature, "SIGNATURE", "no signature",
                        () => Model.Load(checkpoint), "a checkpoint");
                }
                Check.Fails(ErrorCode.InvalidArgument, "INVALID_ARGUMENT", "PUBLIC KEY",
                    () => Bundle.Sign(path, Encoding.ASCII.GetBytes(PublicKey)),
                    "a public key that signs");
            }
            finally
            {
                File.Delete(path);
            }
        }

        private static void CheckInfo(ModelInfo info)
        {
            Check.Equal(5, info.Layers, "layers");
            Check.Equal(64, info.EmbeddingSize, "embedding size");
            Check.Equal(8, info.Heads, "heads");
            Check.Equal(4, info.KvHeads, "KV heads");
            Check.Equal(8, info.HeadSize, "head size");
            Check.Equal(172, info.FeedForwardSize, "feed-forward size");
            Check.Equal(512, info.VocabularySize, "vocabulary");
            Check.Equal(512, info.ContextTokens, "context");
            Check.Equal(1, info.BosTokenId, "BOS");
            Check.Equal(2, info.Threads, "threads");
            Check.Equal("flexq", info.Policy, "policy");
            Check.Equal("cpu", info.Device, "device");
            Check.True(info.Kernels.Length > 0, "kernels");
            Check.True(info.ParameterCount > 200000 && info.ParameterCount < 400000, "parameters");
            Check.True(info.DecodeWeightBytes < info.WeightBytes, "all but the embedding");
            Check.True(info.BitsPerWeight > 6 && info.BitsPerWeight < 16, "bits per weight");
        }

        private static void CheckTensors(Model model)
        {
            IReadOnlyList<TensorInfo> tensors = model.Tensors();
            TensorInfo down = tensors.Single(
                tensor => tensor.Name == "model.layers.4.mlp.down_proj.weight");
            Check.Equal(6, down.WeightBits, "weight bits of down_proj");
            Check.Equal(8, down.ActivationBits, "activation bits of down_proj");
            Check.Equal(128, down.GroupSize, "group size of down_proj");
            Check.Equal(64L, down.Rows, "rows of down_proj");
            Check.Equal(172L, down.Columns, "columns of down_proj");
        }

        private static void SamePlan(ModelPlan expected, ModelPlan actual)
        {
            foreach (var property in typeof(ModelPlan).GetProperties())
            {
                Check.Equal(property.GetValue(expected), property.GetValue(actual),
                    "plan before and after: " + property.Name);
            }
            Check.True(actual.TotalBytes
                == actual.WeightBytes + actual.KvBytes + actual.WorkspaceBytes, "the total");
        }
    }
}

package org.flexq;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.flexq.TestData.assertFails;
import static org.flexq.TestData.tokens;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class LoadTest {
  @TempDir Path folder;

  @Scenario("load_from_path")
  void loadFromPath() {
    ContextOptions contextOptions = new ContextOptions().sequences(3).contextTokens(128);
    ModelOptions options = new ModelOptions().device("cpu").threads(2);
    try (Source source = Source.open(TestData.STORIES)) {
      ModelPlan plan = Model.plan(source, options, contextOptions);
      try (Model model = Model.load(source, options);
          Context context = model.createContext(contextOptions)) {
        assertEquals(plan, context.plan());
        assertEquals(DeviceKind.CPU, plan.kind());
        assertEquals(3, plan.nSequences());
        assertEquals(128, plan.contextTokens());
        ModelInfo info = model.info();
        assertEquals(plan.weightBytes(), info.weightBytes());
        assertEquals(5, info.nLayers());
        assertEquals(64, info.nEmbd());
        assertEquals(512, info.nVocab());
        assertEquals(2, info.nThreads());
        assertEquals("flexq", info.policy());
        assertEquals("cpu", info.device());
        assertTrue(info.bitsPerWeight() > 6 && info.bitsPerWeight() < 16, info.toString());

        List<TensorInfo> tensors = model.tensors();
        Set<String> names = Set.copyOf(tensors.stream().map(TensorInfo::name).toList());
        assertEquals(tensors.size(), names.size());
        TensorInfo down =
            tensors.stream()
                .filter(t -> t.name().equals("model.layers.0.mlp.down_proj.weight"))
                .findFirst()
                .orElseThrow();
        assertEquals(new TensorInfo(down.name(), 64, 172, 6, 8, 128), down);
        assertThrows(IndexOutOfBoundsException.class, () -> tensors.get(tensors.size()));
        assertTrue(model.isEndToken(2));
        assertFalse(model.isEndToken(3));
      }
    }
  }

  @Scenario("load_from_memory")
  void loadFromMemory() throws IOException {
    byte[] bytes = Files.readAllBytes(TestData.STORIES);
    int[] expected;
    try (Model model = TestData.stories()) {
      expected = TestData.answer(model, TestData.PROMPT, tokens(24));
    }
    try (Source source = Source.fromMemory(bytes);
        Model model = Model.load(source, null)) {
      assertArrayEquals(expected, TestData.answer(model, TestData.PROMPT, tokens(24)));
    }
    ByteBuffer direct = ByteBuffer.allocateDirect(bytes.length + 7).position(7).put(bytes);
    try (Source source = Source.fromMemory(direct.position(7));
        Model model = Model.load(source, null)) {
      assertArrayEquals(expected, TestData.answer(model, TestData.PROMPT, tokens(24)));
    }
    try (FileChannel file = FileChannel.open(TestData.STORIES);
        Source source = Source.fromReader(bytes.length, (at, into) -> readFully(file, at, into));
        Model model = Model.load(source, null)) {
      assertArrayEquals(expected, TestData.answer(model, TestData.PROMPT, tokens(24)));
    }
    assertThrows(
        IllegalArgumentException.class, () -> Source.fromMemory(ByteBuffer.wrap(bytes)));
  }

  @Test
  void whatABundleReadsFromOutlivesItsSource() throws IOException {
    byte[] bytes = Files.readAllBytes(TestData.STORIES);
    Source memory = Source.fromMemory(bytes);
    Source reader =
        Source.fromReader(bytes.length, (at, into) -> into.put(bytes, (int) at, into.remaining()));
    try (Bundle inMemory = Bundle.open(memory);
        Bundle behindReader = Bundle.open(reader)) {
      memory.close();
      reader.close();
      memory = null;
      reader = null;
      System.gc();
      inMemory.verify(1, null);
      behindReader.verify(1, null);
    }
  }

  @Test
  void whatAReaderThrowsReachesTheCaller() {
    IOException lost = new IOException("connection lost");
    IllegalStateException broken = new IllegalStateException("broken reader");
    try (Source source =
        Source.fromReader(
            1 << 20,
            (at, into) -> {
              throw lost;
            })) {
      UncheckedIOException e =
          assertThrows(UncheckedIOException.class, () -> Model.load(source, null));
      assertSame(lost, e.getCause());
      assertEquals(FlexqException.IO, ((FlexqException) e.getSuppressed()[0]).code());
    }
    try (Source source =
        Source.fromReader(
            1 << 20,
            (at, into) -> {
              throw broken;
            })) {
      assertSame(broken, assertThrows(RuntimeException.class, () -> Bundle.open(source)));
    }
    try (Source source = Source.fromReader(1 << 20, (at, into) -> {})) {
      assertThrows(IllegalStateException.class, () -> Tokenizer.open(source));
    }
  }

  @Test
  void threadsOfTheLibraryAreAttachedAndDetached() throws Exception {
    byte[] bytes = Files.readAllBytes(TestData.STORIES_FP16);
    Set<Thread> threads = ConcurrentHashMap.newKeySet();
    SourceReader reader =
        (at, into) -> {
          threads.add(Thread.currentThread());
          into.put(bytes, (int) at, into.remaining());
        };
    try (Source source = Source.fromReader(bytes.length, reader);
        Bundle bundle = Bundle.open(source)) {
      // Until a thread of the pool was quick enough to read a part.
      for (int i = 0; i < 1000 && threads.size() < 2; i++) {
        bundle.verify(4, null);
      }
    }
    assertTrue(threads.size() > 1, "no thread of the library read");
    for (Thread thread : threads) {
      if (thread != Thread.currentThread()) {
        assertEquals("flexq", thread.getName());
        assertTrue(thread.isDaemon());
        thread.join(30_000);
        assertFalse(thread.isAlive(), "still attached");
      }
    }
  }

  @Scenario("load_progress")
  void loadProgress() {
    long[] last = new long[2];
    ModelOptions options =
        new ModelOptions()
            .progress(
                (done, total) -> {
                  assertTrue(done >= last[0] && done <= total);
                  last[0] = done;
                  last[1] = total;
                  return true;
                });
    try (Model model = Model.load(TestData.STORIES, options)) {
      assertTrue(last[0] > 0);
      assertEquals(last[1], last[0]);
      assertEquals(5, model.info().nLayers());
    }
  }

  @Scenario("load_cancel")
  void loadCancel() {
    boolean[] goOn = {false};
    ModelOptions options = new ModelOptions().progress((done, total) -> goOn[0]);
    assertFails(FlexqException.CANCELLED, () -> Model.load(TestData.STORIES, options));
    goOn[0] = true;
    Model.load(TestData.STORIES, options).close();
  }

  @Scenario("load_errors")
  void loadErrors() throws IOException {
    Path missing = folder.resolve("模型 😀.flexq");
    FlexqException e =
        assertFails(FlexqException.NOT_FOUND, () -> Model.load(missing));
    assertEquals("NOT_FOUND", e.name());
    assertTrue(e.getMessage().contains(missing.toString()), e.getMessage());
    assertTrue(e.toString().contains("NOT_FOUND (-102)"), e.toString());

    byte[] bytes = Files.readAllBytes(TestData.STORIES);
    bytes[bytes.length / 2] ^= 1;
    Path damaged = Files.write(folder.resolve("damaged.flexq"), bytes);
    assertFails(FlexqException.CORRUPT, () -> Model.load(damaged));
    try (Source source = Source.fromMemory(bytes)) {
      assertFails(FlexqException.CORRUPT, () -> Model.load(source, null));
    }
    try (Source source = Source.fromMemory(new byte[0])) {
      assertThrows(FlexqException.class, () -> Model.load(source, null));
    } catch (FlexqException noBytes) {
      assertEquals(FlexqException.INVALID_ARGUMENT, noBytes.code());
    }
    assertThrows(IllegalArgumentException.class, () -> new Chat().add("us\0er", "text"));
  }

  @Scenario("signatures")
  void signatures() throws IOException {
    // Of tests/support/test_keys.h: the secret key 1, 2, 3 .. 32.
    byte[] secretKey =
        """
        -----BEGIN PRIVATE KEY-----
        MC4CAQAwBQYDK2VwBCIEIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g
        -----END PRIVATE KEY-----
        """
            .getBytes(UTF_8);
    String publicKey =
        """
        -----BEGIN PUBLIC KEY-----
        MCowBQYDK2VwAyEAebVWLo/mVPlAeLES6KmLp5AfhTrmlb7X4OORC60ElmQ=
        -----END PUBLIC KEY-----
        """;
    String otherKey =
        """
        -----BEGIN PUBLIC KEY-----
        MCowBQYDK2VwAyEAP8tC6x2WsPHIIj0ReDGUPg45+t0zK237PQyIUMMxsDg=
        -----END PUBLIC KEY-----
        """;
    String keyId = "79b5562e8fe654f94078b112e8a98ba7901f853ae695bed7e0e3910bad049664";
    Path path = Files.copy(TestData.STORIES, folder.resolve("signed.flexq"));
    try (Source source = Source.open(path)) {
      try (Bundle bundle = Bundle.open(source)) {
        assertNull(bundle.signer());
      }
      source.requireKey(publicKey);
      FlexqException unsigned =
          assertFails(FlexqException.SIGNATURE, () -> Model.load(source, null));
      assertTrue(unsigned.getMessage().contains(keyId), unsigned.getMessage());

      assertFails(FlexqException.CANCELLED, () -> Bundle.sign(path, secretKey, 1, (d, t) -> false));
      long[] progress = new long[2];
      Bundle.sign(
          path,
          secretKey,
          0,
          (done, total) -> {
            progress[0] = done;
            progress[1] = total;
            return true;
          });
      assertEquals(progress[1], progress[0]);
      assertTrue(progress[0] > Files.size(path), progress[0] + " bytes checked and copied");
      Model.load(source, null).close();
      Tokenizer.open(source).close();
      try (Bundle bundle = Bundle.open(source)) {
        assertEquals(keyId, bundle.signer());
        assertTrue(bundle.json().contains(keyId), "the signer in the bundle's JSON");
      }
      source.requireKey(otherKey);
      assertFails(FlexqException.SIGNATURE, () -> Model.load(source, null));
      assertFails(FlexqException.SIGNATURE, () -> Model.plan(source, null, null));
      assertFails(FlexqException.SIGNATURE, () -> Tokenizer.open(source));
      assertFails(FlexqException.SIGNATURE, () -> Bundle.open(source));
      assertFails(FlexqException.INVALID_ARGUMENT, () -> source.requireKey("no key"));
    }
    try (Source checkpoint = Source.open(TestData.CHECKPOINT).requireKey(publicKey)) {
      assertFails(FlexqException.SIGNATURE, () -> Model.load(checkpoint, null));
    }
    assertFails(
        FlexqException.INVALID_ARGUMENT,
        () -> Bundle.sign(path, publicKey.getBytes(UTF_8), 1, null));
    assertTrue(new String(secretKey, UTF_8).contains("MC4CAQAw"), "the caller's array is his own");
  }

  @Scenario("options_errors")
  void optionsErrors() {
    assertFails(
        FlexqException.UNKNOWN_OPTION,
        () -> Model.load(TestData.STORIES, new ModelOptions().set("no.such.key", "1")));
    assertFails(
        FlexqException.UNSUPPORTED_VALUE,
        () -> Model.load(TestData.STORIES, new ModelOptions().set("cpu.kernels", "abacus")));
    assertFails(
        FlexqException.NO_DEVICE,
        () -> Model.load(TestData.STORIES, new ModelOptions().device("abacus")));
    assertFails(
        FlexqException.INVALID_ARGUMENT,
        () -> Model.load(TestData.STORIES, new ModelOptions().threads(-1)));
    assertFails(
        FlexqException.UNSUPPORTED_VALUE, () -> Source.synthetic("gpt-2", new QuantizeOptions()));
    Path output = folder.resolve("out.flexq");
    assertFails(
        FlexqException.UNSUPPORTED_VALUE,
        () ->
            Quantizer.quantize(TestData.CHECKPOINT, output, new QuantizeOptions().policy("w1a1")));
    assertFails(
        FlexqException.INVALID_ARGUMENT,
        () ->
            Quantizer.quantize(
                TestData.CHECKPOINT, output, new QuantizeOptions().perplexityBudget(2)));
    try (Model model = TestData.stories();
        Context context = model.createContext()) {
      assertFails(
          FlexqException.UNSUPPORTED_VALUE,
          () -> model.createContext(new ContextOptions().contextTokens(1 << 20)));
      assertFails(
          FlexqException.UNKNOWN_OPTION,
          () -> model.createContext(new ContextOptions().set("kv", "f16")));
      GeneratorOptions cold =
          new GeneratorOptions().sampling(new SamplingOptions().temperature(-1));
      assertFails(FlexqException.INVALID_ARGUMENT, () -> context.createGenerator(cold));
      assertFails(
          FlexqException.INVALID_ARGUMENT,
          () -> context.createGenerator(new GeneratorOptions().stop("")));
    }
  }

  private static void readFully(FileChannel file, long offset, ByteBuffer into)
      throws IOException {
    long at = offset;
    while (into.hasRemaining()) {
      int n = file.read(into, at);
      if (n < 0) {
        throw new IOException("the file ends at " + at);
      }
      at += n;
    }
  }
}

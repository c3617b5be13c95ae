package org.flexq;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.flexq.TestData.assertFails;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.flexq.internal.FlexqNative;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class TextTest {
  private static final List<String> TEXTS =
      List.of(
          "plain",
          "😀",
          "👩‍🚀 🇯🇵 👍🏽",
          "你好,世界。日本語と한국어",
          "e\u0301 a\u030a n\u0303",
          "שלום مرحبا",
          "a\0b\0",
          "\u0000",
          "é世😀\uffff");
  private static Model model;
  private static Tokenizer tokenizer;

  @BeforeAll
  static void open() {
    model = TestData.stories();
    tokenizer = model.tokenizer();
  }

  @AfterAll
  static void close() {
    tokenizer.close();
    model.close();
  }

  @Scenario("tokenizer_text")
  void tokenizerText() {
    assertEquals(512, tokenizer.vocabSize());
    for (String text : TEXTS) {
      // What reached C, not an echo: "modified UTF-8" comes back unchanged too.
      byte[] utf8 = text.getBytes(UTF_8);
      assertEquals(utf8.length, FlexqNative.text_byte_count(utf8), text);
      int[] tokens = tokenizer.encode(text, EncodeFlag.PLAIN);
      assertEquals(text, tokenizer.decode(tokens));
      assertEquals(1 + tokens.length, tokenizer.encode(text).length, "BOS in front");
      // This vocabulary spells what it does not know byte by byte, from <0x00> = 3 on.
      if (text.codePoints().allMatch(c -> c > 0x2e80)) {
        int[] bytes = IntStream.range(0, utf8.length).map(i -> 3 + (utf8[i] & 0xff)).toArray();
        int begin = tokens.length - utf8.length;
        assertArrayEquals(bytes, Arrays.copyOfRange(tokens, begin, tokens.length));
      }
    }
    assertEquals("", tokenizer.decode());
    assertEquals(0, tokenizer.encode("", EncodeFlag.PLAIN).length);
    int[] special = tokenizer.encode("<s>", Set.of(EncodeFlag.PARSE_SPECIAL));
    assertArrayEquals(new int[] {1}, special);
    assertTrue(tokenizer.encode("<s>", EncodeFlag.PLAIN).length > 1);
    String longText = "Once upon a time 😀. ".repeat(20_000) + "End.";
    assertTrue(longText.equals(tokenizer.decode(tokenizer.encode(longText))), "a long text");
    try (Source source = Source.open(TestData.CHECKPOINT);
        Tokenizer alone = Tokenizer.open(source)) {
      assertArrayEquals(tokenizer.encode(TEXTS.get(2)), alone.encode(TEXTS.get(2)));
    }
    assertFails(FlexqException.INVALID_ARGUMENT, () -> tokenizer.decode(1 << 20));
  }

  @Scenario("token_bytes")
  void tokenBytes() throws IOException {
    int[] tokens = tokenizer.encode("😀", EncodeFlag.PLAIN);
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    for (int token : tokens) {
      bytes.write(tokenizer.tokenBytes(token));
    }
    byte[] end = Arrays.copyOfRange(bytes.toByteArray(), bytes.size() - 4, bytes.size());
    assertArrayEquals("😀".getBytes(UTF_8), end);
    byte[] firstByte = tokenizer.tokenBytes(tokens[tokens.length - 4]);
    assertArrayEquals(new byte[] {(byte) 0xf0}, firstByte);
    assertEquals("\ufffd", tokenizer.decode(tokens[tokens.length - 4]), "half a character as text");
  }

  @Scenario("chat_template")
  void chatTemplate(@TempDir Path folder) throws IOException {
    assertFails(FlexqException.NOT_FOUND, tokenizer::chatTemplate);
    assertEquals("", tokenizer.chatTemplateText());
    assertArrayEquals(new int[] {2}, tokenizer.chatStopTokens("llama-2"));
    try (Chat chat = new Chat()) {
      assertFails(
          FlexqException.INVALID_ARGUMENT, () -> tokenizer.encodeChat("llama-2", chat, true));
      chat.add("user", "Hello </s> there 😀");
      int[] tokens = tokenizer.encodeChat("llama-2", chat, true);
      assertEquals("[INST] Hello </s> there 😀 [/INST]", tokenizer.decode(tokens).trim());
      assertEquals(1, tokens[0]);
      assertFalse(IntStream.of(tokens).anyMatch(t -> t == 2), "</s> in a message is text");
      assertFails(
          FlexqException.UNSUPPORTED_VALUE, () -> tokenizer.encodeChat("alpaca", chat, true));
      assertFails(FlexqException.NOT_FOUND, () -> tokenizer.encodeChat(null, chat, true));
      assertFails(FlexqException.INVALID_ARGUMENT, () -> chat.add("narrator", "x"));
      chat.clear().add("user", "Hi");
      String hi = tokenizer.decode(tokenizer.encodeChat("llama-2", chat, true)).trim();
      assertEquals("[INST] Hi [/INST]", hi);

      // An answer in the format ends at its stops.
      try (Context context = model.createContext();
          Generator generator =
              context.createGenerator(
                  new GeneratorOptions().chatStops(tokenizer, "llama-2").maxTokens(8))) {
        generator.start(tokenizer.encodeChat("llama-2", chat, true));
        assertEquals(FinishReason.LENGTH, generator.run(null));
      }
    }

    String jinja = "{% for m in messages %}你好 😀 {{ m.content }}{% endfor %}";
    Files.copy(
        TestData.CHECKPOINT.resolve("tokenizer.model"), folder.resolve("tokenizer.model"));
    Files.writeString(
        folder.resolve("tokenizer_config.json"), "{\"chat_template\": \"" + jinja + "\"}");
    try (Source source = Source.open(folder);
        Tokenizer own = Tokenizer.open(source)) {
      assertEquals(jinja, own.chatTemplateText());
      assertFails(FlexqException.UNSUPPORTED_MODEL, own::chatTemplate);
    }
    Files.writeString(
        folder.resolve("tokenizer_config.json"), "{\"chat_template\": " + zephyrTemplate() + "}");
    try (Source source = Source.open(folder);
        Tokenizer own = Tokenizer.open(source)) {
      assertEquals("zephyr", own.chatTemplate());
    }
  }

  @Scenario("reference_tokens")
  void referenceTokens() throws IOException, InterruptedException {
    Path prompts = TestData.SOURCE.resolve("bindings/test/prompts.tsv");
    Process reference =
        new ProcessBuilder(
                System.getProperty("flexq.test.reference"),
                TestData.BUNDLES.toString(),
                prompts.toString())
            .redirectError(ProcessBuilder.Redirect.INHERIT)
            .start();
    String output = new String(reference.getInputStream().readAllBytes(), UTF_8);
    assertEquals(0, reference.waitFor());
    List<String> expected = output.lines().toList();

    List<String> actual = new ArrayList<>();
    for (String line : Files.readAllLines(prompts)) {
      if (!line.startsWith("#")) {
        actual.add(answer(line.split("\t", -1)));
      }
    }
    assertTrue(actual.size() > 10);
    assertEquals(String.join("\n", expected), String.join("\n", actual));
  }

  /** The line that the C program writes for this case. */
  private static String answer(String[] fields) {
    String id = fields[0];
    String prompt = fields[7];
    SamplingOptions sampling =
        new SamplingOptions()
            .seed(Long.parseUnsignedLong(fields[3]))
            .temperature(Float.parseFloat(fields[4]))
            .topK(Integer.parseInt(fields[5]));
    GeneratorOptions options =
        new GeneratorOptions().sampling(sampling).maxTokens(Integer.parseInt(fields[6]));
    Path bundle = TestData.BUNDLES.resolve(fields[1] + "-" + fields[2] + ".flexq");
    try (Model model = Model.load(bundle);
        Context context = model.createContext();
        Generator generator = context.start(prompt, options)) {
      StringBuilder pieces = new StringBuilder();
      generator.run(
          event -> {
            pieces.append(event.text());
            return true;
          });
      assertEquals(generator.text(), pieces.toString(), id);
      return String.join(
          "\t",
          id,
          Long.toString(FlexqNative.text_byte_count(prompt.getBytes(UTF_8))),
          ids(generator.promptTokens()),
          ids(generator.tokens()),
          HexFormat.of().formatHex(generator.text().getBytes(UTF_8)));
    }
  }

  private static String ids(int[] tokens) {
    return IntStream.of(tokens).mapToObj(Integer::toString).collect(Collectors.joining(","));
  }

  /** As published, in JSON: from the templates that the C tests use. */
  private static String zephyrTemplate() throws IOException {
    String header =
        Files.readString(TestData.SOURCE.resolve("tests/api/published_chat_templates.h"));
    int begin = header.indexOf("R\"(", header.indexOf("\"zephyr\"")) + 3;
    return header.substring(begin, header.indexOf(")\"", begin));
  }

  @Test
  void unpairedSurrogatesAreReplaced() {
    assertEquals("a?b", tokenizer.decode(tokenizer.encode("a\ud83db")));
  }
}

package org.flexq;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.nio.file.Path;
import org.junit.jupiter.api.function.Executable;

/** Files that the build made for the tests, and what many tests do. */
final class TestData {
  static final Path SOURCE = Path.of(System.getProperty("flexq.test.source"));
  static final Path BUNDLES = Path.of(System.getProperty("flexq.test.bundles"));
  static final Path STORIES = BUNDLES.resolve("stories260k-flexq.flexq");
  static final Path STORIES_FP16 = BUNDLES.resolve("stories260k-fp16.flexq");
  static final Path SCRIPTED = BUNDLES.resolve("scripted-flexq.flexq");
  static final Path CHECKPOINT = SOURCE.resolve("samples/data/stories260k");
  static final String PROMPT = "Once upon a time";

  private TestData() {}

  static Model stories() {
    return Model.load(STORIES);
  }

  /** An answer of exactly so many tokens. */
  static GeneratorOptions tokens(int n) {
    return new GeneratorOptions().maxTokens(n).ignoreEnd(true);
  }

  /** The token ids of an answer on a context of its own. */
  static int[] answer(Model model, String prompt, GeneratorOptions options) {
    try (Context context = model.createContext();
        Generator generator = context.start(prompt, options)) {
      generator.run(null);
      return generator.tokens();
    }
  }

  /** That it fails with the code, and with a message that says something. */
  static FlexqException assertFails(int code, Executable executable) {
    FlexqException e = assertThrows(FlexqException.class, executable);
    assertEquals(code, e.code(), e.toString());
    assertFalse(e.getMessage().isEmpty(), "an exception without a message");
    return e;
  }
}

package org.flexq;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** How the native library is found, each time by a JVM of its own. */
class LoaderTest {
  private static final String LIBRARIES = System.getProperty("flexq.library.path");
  private static final String CLASSES = System.getProperty("flexq.test.classes");

  /** What is run: prints the version of the library that was found. */
  public static final class Program {
    public static void main(String[] arguments) {
      System.out.println("version " + FlexQ.version());
    }
  }

  private record Result(int code, String output) {}

  private static Result run(String variable, String classes, String... options)
      throws IOException, InterruptedException {
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.addAll(Arrays.asList(options));
    command.addAll(
        List.of("-cp", classes + ":" + System.getProperty("flexq.test.test_classes")));
    command.add(Program.class.getName());
    ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
    builder.environment().remove("FLEXQ_LIBRARY_PATH");
    if (variable != null) {
      builder.environment().put("FLEXQ_LIBRARY_PATH", variable);
    }
    Process process = builder.start();
    String output = new String(process.getInputStream().readAllBytes(), UTF_8);
    return new Result(process.waitFor(), output);
  }

  private static void assertFound(Result result) {
    assertEquals("version " + FlexQ.version() + "\n", result.output());
    assertEquals(0, result.code());
  }

  @Test
  void everyPlaceIsFound(@TempDir Path folder) throws Exception {
    assertFound(run(null, CLASSES, "-Dflexq.library.path=" + LIBRARIES));
    assertFound(run(LIBRARIES, CLASSES));
    assertFound(run(null, CLASSES, "-Djava.library.path=" + LIBRARIES));
    // The property goes before the variable, and the variable before everything else.
    assertFound(run("/nowhere", CLASSES, "-Dflexq.library.path=" + LIBRARIES));
    assertNotEquals(0, run("/nowhere", CLASSES, "-Djava.library.path=" + LIBRARIES).code());
    // Beside the classes, with a folder name that is not ASCII.
    Path place = folder.resolve("a b é");
    copy(Path.of(CLASSES), place);
    for (String library : List.of("libflexq_java.so", "libflexq.so.0")) {
      Files.copy(Path.of(LIBRARIES, library), place.resolve(library));
    }
    assertFound(run(null, place.toString(), "-Dsun.jnu.encoding=UTF-8"));
  }

  @Test
  void extractionGoesIntoAFolderThatIsDeletedAtExit(@TempDir Path folder) throws Exception {
    Path natives = folder.resolve("jar/org/flexq/natives/linux-x86_64");
    Path temporary = Files.createDirectories(folder.resolve("tmp"));
    Files.createDirectories(natives);
    Files.writeString(natives.resolve("libraries.txt"), "libflexq.so.0\nlibflexq_java.so\n");
    for (String library : List.of("libflexq_java.so", "libflexq.so.0")) {
      Files.copy(Path.of(LIBRARIES, library), natives.resolve(library));
    }
    String classes = CLASSES + ":" + folder.resolve("jar");
    String option = "-Djava.io.tmpdir=" + temporary;
    assertFound(run(null, classes, option));
    try (var left = Files.list(temporary)) {
      assertEquals(List.of(), left.toList());
    }
    Files.delete(natives.resolve("libflexq.so.0"));
    Result lacking = run(null, classes, option);
    assertTrue(lacking.output().contains("the natives jar lacks"), lacking.output());
  }

  @Scenario("loader_paths")
  void loaderPaths() throws Exception {
    Result nowhere = run(null, CLASSES, "-Djava.library.path=/no/libraries");
    assertNotEquals(0, nowhere.code());
    for (String expected :
        List.of(
            "UnsatisfiedLinkError",
            CLASSES + "/libflexq_java.so (beside the jar): no such file",
            "class path resource org/flexq/natives/linux-x86_64/",
            "java.library.path /no/libraries")) {
      assertTrue(nowhere.output().contains(expected), nowhere.output());
    }
    Result explicit = run(null, CLASSES, "-Dflexq.library.path=/no/where");
    assertNotEquals(0, explicit.code());
    assertTrue(
        explicit.output().contains("/no/where/libflexq_java.so (property flexq.library.path)"),
        explicit.output());
    Result variable = run("/no/way", CLASSES);
    assertTrue(
        variable.output().contains("/no/way/libflexq_java.so (environment variable FLEXQ_L"),
        variable.output());
  }

  @Scenario("abi_version")
  void abiVersion() throws Exception {
    assertEquals(FlexQ.ABI_VERSION, FlexQ.abiVersion());
    String other = System.getProperty("flexq.test.other_abi");
    Result result = run(null, CLASSES, "-Dflexq.library.path=" + other);
    assertNotEquals(0, result.code());
    assertTrue(
        result
            .output()
            .contains(
                other
                    + "/libflexq_java.so has ABI version 4711, this jar needs version "
                    + FlexQ.ABI_VERSION),
        result.output());
  }

  private static void copy(Path from, Path to) throws IOException {
    try (var files = Files.walk(from)) {
      for (Path file : files.toList()) {
        Path target = to.resolve(from.relativize(file).toString());
        if (Files.isDirectory(file)) {
          Files.createDirectories(target);
        } else {
          Files.copy(file, target);
        }
      }
    }
  }
}

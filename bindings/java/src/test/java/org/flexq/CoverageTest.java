package org.flexq;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.DataInputStream;
import java.io.IOException;
import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.flexq.internal.FlexqNativeConstants;
import org.junit.jupiter.api.Test;

/** Nothing of flexq.h is out of reach, and nothing of scenarios.txt is untested. */
class CoverageTest {
  private static final String NATIVE = "org/flexq/internal/FlexqNative";

  @Test
  void everyFunctionOfTheHeaderIsCalled() throws IOException {
    String header =
        Files.readString(TestData.SOURCE.resolve("include/flexq.h"))
            .replaceAll("(?s)/\\*.*?\\*/", "");
    Set<String> declared = new TreeSet<>();
    Matcher function = Pattern.compile("FLEXQ_API[^;]*?\\b(flexq_\\w+)\\s*\\(").matcher(header);
    while (function.find()) {
      declared.add(function.group(1));
    }
    assertTrue(declared.size() > 100, declared.size() + " functions declared");

    Set<String> called = new TreeSet<>();
    // Read by native code where it makes the exception; every test of a message shows it.
    called.add("flexq_last_error");
    Path classes = Path.of(System.getProperty("flexq.test.classes"), "org/flexq");
    try (var files = Files.list(classes)) {
      for (Path file : files.filter(f -> f.toString().endsWith(".class")).toList()) {
        called.addAll(nativeMethodsIn(file));
      }
    }
    assertEquals(String.join("\n", declared), String.join("\n", called));
  }

  /** Names of the methods of FlexqNative in a class's constant pool. */
  private static List<String> nativeMethodsIn(Path file) throws IOException {
    try (DataInputStream in = new DataInputStream(Files.newInputStream(file))) {
      in.skipNBytes(8); // magic and version
      Object[] pool = new Object[in.readUnsignedShort()];
      for (int i = 1; i < pool.length; i++) {
        int tag = in.readUnsignedByte();
        switch (tag) {
          case 1 -> pool[i] = in.readUTF();
          case 3, 4 -> in.skipNBytes(4); // Integer, Float
          case 5, 6 -> { // Long, Double take two places
            in.skipNBytes(8);
            i++;
          }
          case 7 -> pool[i] = new int[] {tag, in.readUnsignedShort()};
          case 8, 16, 19, 20 -> in.skipNBytes(2); // String, MethodType, Module, Package
          case 9, 10, 11, 12 ->
              pool[i] = new int[] {tag, in.readUnsignedShort(), in.readUnsignedShort()};
          case 15 -> in.skipNBytes(3); // MethodHandle
          case 17, 18 -> in.skipNBytes(4); // Dynamic, InvokeDynamic
          default -> throw new IOException(file + ": constant of kind " + tag);
        }
      }
      List<String> names = new ArrayList<>();
      for (Object entry : pool) {
        if (entry instanceof int[] method && method[0] == 10) {
          int[] owner = (int[]) pool[method[1]];
          int[] nameAndType = (int[]) pool[method[2]];
          String name = (String) pool[nameAndType[1]];
          if (NATIVE.equals(pool[owner[1]]) && name.startsWith("flexq_")) {
            names.add(name);
          }
        }
      }
      return names;
    }
  }

  @Test
  void everyCodeIsAConstantOfTheException() throws ReflectiveOperationException {
    int n = 0;
    for (Field field : FlexqNativeConstants.class.getFields()) {
      if (field.getName().startsWith("FLEXQ_ERROR_")) {
        Field mine =
            FlexqException.class.getField(field.getName().substring("FLEXQ_ERROR_".length()));
        assertEquals(field.getInt(null), mine.getInt(null), field.getName());
        n++;
      }
    }
    assertEquals(25, n);
  }

  @Test
  void everyScenarioHasATestAndEveryTestAScenario() throws Exception {
    Set<String> listed = new TreeSet<>();
    for (String line :
        Files.readAllLines(TestData.SOURCE.resolve("bindings/test/scenarios.txt"), UTF_8)) {
      if (!line.startsWith("#") && !line.isBlank()) {
        listed.add(line.split("\\s+")[0]);
      }
    }
    Set<String> tested = new TreeSet<>();
    Path classes = Path.of(System.getProperty("flexq.test.test_classes"), "org/flexq");
    try (var files = Files.list(classes)) {
      for (Path file : files.filter(f -> f.toString().endsWith("Test.class")).toList()) {
        String name = file.getFileName().toString().replace(".class", "");
        for (Method method : Class.forName("org.flexq." + name).getDeclaredMethods()) {
          Scenario scenario = method.getAnnotation(Scenario.class);
          if (scenario != null) {
            assertTrue(tested.add(scenario.value()), "twice: " + scenario.value());
          }
        }
      }
    }
    assertEquals(listed, tested);
  }
}

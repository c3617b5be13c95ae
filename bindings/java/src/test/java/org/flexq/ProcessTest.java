package org.flexq;

import static org.flexq.TestData.PROMPT;
import static org.flexq.TestData.assertFails;
import static org.flexq.TestData.tokens;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;

/** What is set for the whole process. */
class ProcessTest {
  @Test
  void versionsAndDevices() {
    assertTrue(FlexQ.version().matches("\\d+\\.\\d+\\.\\d+"), FlexQ.version());
    assertTrue(FlexQ.buildInfo().contains("version: " + FlexQ.version()), FlexQ.buildInfo());
    List<DeviceInfo> devices = FlexQ.devices();
    DeviceInfo cpu = devices.get(0);
    assertEquals(DeviceKind.CPU, cpu.kind());
    assertEquals("cpu", cpu.id());
    assertFalse(cpu.name().isEmpty());
    assertTrue(cpu.nThreads() >= 1 && cpu.totalMemoryBytes() > cpu.freeMemoryBytes());
  }

  @Scenario("log_callback")
  void logCallback() {
    List<String> messages = Collections.synchronizedList(new ArrayList<>());
    FlexQ.setLog((level, message) -> messages.add(level + " " + message), LogLevel.DEBUG);
    try {
      TestData.stories().close();
      assertFalse(messages.isEmpty());
      assertTrue(messages.stream().allMatch(m -> m.length() > 6 && !m.contains("\n")));
      // There is nobody to throw at.
      List<Throwable> uncaught = new ArrayList<>();
      RuntimeException mine = new RuntimeException("mine");
      Thread thread = Thread.currentThread();
      Thread.UncaughtExceptionHandler before = thread.getUncaughtExceptionHandler();
      thread.setUncaughtExceptionHandler((t, e) -> uncaught.add(e));
      FlexQ.setLog(
          (level, message) -> {
            throw mine;
          },
          LogLevel.DEBUG);
      TestData.stories().close();
      thread.setUncaughtExceptionHandler(before);
      assertSame(mine, uncaught.get(0));
    } finally {
      FlexQ.setLog(null, LogLevel.ERROR);
    }
    int n = messages.size();
    TestData.stories().close();
    assertEquals(n, messages.size());
  }

  /** Direct buffers, kept by address until they are freed. */
  private static final class Buffers implements HostAllocator {
    final Map<Long, ByteBuffer> live = new ConcurrentHashMap<>();
    final AtomicLong allocatedBytes = new AtomicLong();
    final AtomicLong freedBytes = new AtomicLong();
    volatile long limitBytes = Long.MAX_VALUE;

    @Override
    public long allocate(long nBytes, long alignment) {
      if (allocatedBytes.get() - freedBytes.get() + nBytes > limitBytes) {
        throw new OutOfMemoryError("beyond the limit of this test");
      }
      int padded = Math.toIntExact(nBytes + 2 * alignment);
      ByteBuffer buffer = ByteBuffer.allocateDirect(padded).alignedSlice((int) alignment);
      long address = HostAllocator.addressOf(buffer);
      assertEquals(0, address % alignment);
      live.put(address, buffer);
      allocatedBytes.addAndGet(nBytes);
      return address;
    }

    @Override
    public void free(long address, long nBytes) {
      assertTrue(live.remove(address) != null);
      freedBytes.addAndGet(nBytes);
    }
  }

  @Scenario("allocator")
  void allocator() {
    Buffers buffers = new Buffers();
    FlexQ.setAllocator(buffers);
    try {
      String text;
      try (Model model = TestData.stories();
          Context context = model.createContext()) {
        assertFails(FlexqException.INVALID_STATE, () -> FlexQ.setAllocator(null));
        ModelPlan plan = context.plan();
        long inUse = buffers.allocatedBytes.get() - buffers.freedBytes.get();
        assertTrue(inUse >= plan.totalBytes(), inUse + " of " + plan);
        text = context.generate(PROMPT, tokens(8));
      }
      assertTrue(buffers.live.isEmpty(), buffers.live.size() + " buffers were not freed");
      assertEquals(buffers.allocatedBytes.get(), buffers.freedBytes.get());

      buffers.limitBytes = 1 << 16;
      assertFails(FlexqException.OUT_OF_MEMORY, TestData::stories);
      assertTrue(buffers.live.isEmpty());
      FlexQ.setAllocator(null);
      try (Model model = TestData.stories();
          Context context = model.createContext()) {
        assertEquals(text, context.generate(PROMPT, tokens(8)));
      }
    } finally {
      FlexQ.setAllocator(null);
    }
    assertThrows(
        IllegalArgumentException.class, () -> HostAllocator.addressOf(ByteBuffer.allocate(8)));
  }

  @Test
  void whatNobodyReachesIsReleased() throws InterruptedException {
    Buffers buffers = new Buffers();
    FlexQ.setAllocator(buffers);
    try (Model model = TestData.stories()) {
      int ofModel = buffers.live.size();
      try (Request request = forgetEngine(model)) {
        System.gc();
        Thread.sleep(20); // for the cleaner
        TokenEvent last = request.next();
        while (!last.isLast()) {
          last = request.next();
        }
        assertEquals(FinishReason.LENGTH, last.finishReason());
      }
      forgetContexts(model);
      assertTrue(buffers.live.size() > ofModel);
      long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
      while (buffers.live.size() > ofModel) {
        assertTrue(System.nanoTime() < end, "buffers of contexts that nobody reaches");
        System.gc();
        Thread.sleep(10);
      }
    }
    assertTrue(buffers.live.isEmpty());
    FlexQ.setAllocator(null);
  }

  /** A request that alone holds its engine. */
  private static Request forgetEngine(Model model) {
    Context context = model.createContext();
    return context.createEngine(null).submit(PROMPT, tokens(400));
  }

  /** In a method of its own: nothing of them stays in a local variable. */
  private static void forgetContexts(Model model) {
    for (int i = 0; i < 5; i++) {
      Context context = model.createContext();
      context.start(PROMPT, tokens(4)).run(null);
    }
  }
}

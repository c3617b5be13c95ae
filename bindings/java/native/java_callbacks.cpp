// Trampolines: from the library's callbacks to the methods of org.flexq.internal.Callback. Those
// throw nothing but what the JVM itself throws (no memory, stack overflow): it stays pending on a
// thread that Java called from, and stops the operation.
#include <pthread.h>

#include <algorithm>

#include "flexq_jni.h"
#include "java_classes.h"

namespace flexq_java {
namespace {

constexpr int32_t kStop = 1;

extern "C" void detach_thread(void*) {
  java_classes().vm->DetachCurrentThread();
}

pthread_key_t make_detach_key() {
  pthread_key_t key{};
  pthread_key_create(&key, detach_thread);
  return key;
}

// The JNI environment of this thread; NULL where the JVM cannot take the thread. Attaching costs
// 30 microseconds, so it is done once per thread. As a daemon: no thread of a pool keeps the JVM
// from ending.
JNIEnv* attach(bool* is_library_thread) {
  JavaVM* vm = java_classes().vm;
  void* env = nullptr;
  *is_library_thread = false;
  static const pthread_key_t detach_key = make_detach_key();
  if (vm->GetEnv(&env, JNI_VERSION_1_8) != JNI_OK) {
    char name[] = "flexq";
    JavaVMAttachArgs arguments = {JNI_VERSION_1_8, name, nullptr};
    if (vm->AttachCurrentThreadAsDaemon(&env, &arguments) != JNI_OK) return nullptr;
    pthread_setspecific(detach_key, env);
  }
  *is_library_thread = pthread_getspecific(detach_key) != nullptr;
  return static_cast<JNIEnv*>(env);
}

// One call into Java: the environment, and a frame for local references, since the native method
// that they would end with may run for long.
class Call {
 public:
  explicit Call(void* user_data) : object(static_cast<jobject>(user_data)) {
    env = attach(&is_library_thread_);
    if (env && (env->ExceptionCheck() || env->PushLocalFrame(8) != JNI_OK)) env = nullptr;
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  ~Call() {
    if (!env) return;
    // Nobody would see it on a thread of the library's own, and the next call needs a clean slate.
    if (is_library_thread_) env->ExceptionClear();
    env->PopLocalFrame(nullptr);
  }

  bool failed() const { return !env || env->ExceptionCheck(); }

  JNIEnv* env = nullptr;  // NULL: no call into Java is possible
  jobject object;

 private:
  bool is_library_thread_ = false;
};

template <typename JArray, typename T>
JArray fill(JNIEnv* env, JArray array, void (JNIEnv::*set)(JArray, jsize, jsize, const T*), jint n,
            const void* elements) {
  if (array && n > 0) (env->*set)(array, 0, n, static_cast<const T*>(elements));
  return array;
}

}  // namespace

jint deliver(JNIEnv* env, jobject callback, const flexq_token_event* event) {
  jbyteArray text = make_bytes(env, event->text_bytes > 0 ? event->text : "", event->text_bytes);
  if (!text) return kStop;
  jintArray tokens = nullptr;
  jfloatArray log_probs = nullptr;
  const jint n = event->n_alternatives;
  if (n > 0) {
    tokens =
        fill(env, env->NewIntArray(n), &JNIEnv::SetIntArrayRegion, n, event->alternative_tokens);
    if (!tokens) return kStop;
    log_probs = fill(env, env->NewFloatArray(n), &JNIEnv::SetFloatArrayRegion, n,
                     event->alternative_log_probs);
    if (!log_probs) return kStop;
  }
  const jint stop =
      env->CallIntMethod(callback, java_classes().token, event->finish_reason, event->token,
                         event->position, text, event->log_prob, tokens, log_probs);
  return env->ExceptionCheck() ? kStop : stop;
}

int32_t on_token(const flexq_token_event* event, void* user_data) {
  Call call(user_data);
  return call.env ? deliver(call.env, call.object, event) : kStop;
}

int32_t on_progress(int64_t done, int64_t total, void* user_data) {
  Call call(user_data);
  if (!call.env) return kStop;
  const jint stop =
      call.env->CallIntMethod(call.object, java_classes().progress, jlong{done}, jlong{total});
  return call.failed() ? kStop : stop;
}

int32_t on_window(int32_t window, int32_t n_windows, double window_nll, void* user_data) {
  Call call(user_data);
  if (!call.env) return kStop;
  const jint stop =
      call.env->CallIntMethod(call.object, java_classes().window, window, n_windows, window_nll);
  return call.failed() ? kStop : stop;
}

int32_t on_question(const flexq_question_result* result, void* user_data) {
  Call call(user_data);
  if (!call.env) return kStop;
  const jint n = result->n_choices;
  jdoubleArray scores =
      fill(call.env, call.env->NewDoubleArray(n), &JNIEnv::SetDoubleArrayRegion, n, result->scores);
  if (!scores) return kStop;
  const jint stop = call.env->CallIntMethod(call.object, java_classes().question, result->question,
                                            result->n_questions, result->answer, result->best,
                                            result->best_norm, scores);
  return call.failed() ? kStop : stop;
}

int32_t on_read(int64_t offset, void* buffer, int64_t n_bytes, void* user_data) {
  // A Java array per piece; no piece so large that it would strain the heap.
  constexpr int64_t kPieceBytes = 4 << 20;
  auto* out = static_cast<jbyte*>(buffer);
  for (int64_t done = 0; done < n_bytes;) {
    Call call(user_data);
    if (!call.env) return kStop;
    const auto n = static_cast<jint>(std::min(kPieceBytes, n_bytes - done));
    auto piece = static_cast<jbyteArray>(
        call.env->CallObjectMethod(call.object, java_classes().read, jlong{offset + done}, n));
    if (call.failed() || !piece) return kStop;
    call.env->GetByteArrayRegion(piece, 0, n, out + done);
    if (call.failed()) return kStop;
    done += n;
  }
  return 0;
}

void on_log(int32_t level, const char* text, int64_t text_bytes, void* user_data) {
  Call call(user_data);
  if (!call.env) return;
  jbyteArray bytes = make_bytes(call.env, text, text_bytes);
  if (!bytes) return;
  call.env->CallVoidMethod(call.object, java_classes().log, level, bytes);
  call.failed();
}

void* on_allocate(int64_t n_bytes, int64_t alignment, void* user_data) {
  Call call(user_data);
  if (!call.env) return nullptr;
  const jlong address = call.env->CallLongMethod(call.object, java_classes().allocate,
                                                 jlong{n_bytes}, jlong{alignment});
  return call.failed() ? nullptr : reinterpret_cast<void*>(address);
}

void on_free(void* memory, int64_t n_bytes, void* user_data) {
  Call call(user_data);
  if (!call.env) return;
  call.env->CallVoidMethod(call.object, java_classes().free, reinterpret_cast<jlong>(memory),
                           jlong{n_bytes});
  call.failed();
}

}  // namespace flexq_java

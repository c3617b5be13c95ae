// What the wrappers that SWIG makes for Java use: arrays, exceptions, callbacks.
//
// A callback of flexq.h is a trampoline of this file, its user_data a global reference to an
// org.flexq.internal.Callback. The Java side of it catches what user code throws, so nothing is
// thrown through the library; a thread of the library's own is attached to the JVM at its first
// callback and detached when it ends.
#pragma once

#include <jni.h>

#include <cstdint>

#include "flexq.h"

namespace flexq_java {

// The status, with a pending FlexqException where it is a failure. BUFFER_TOO_SMALL is an answer,
// not a failure: the caller asks again with a larger buffer. Reads the last error at once: a
// virtual thread may go on on another thread after the native call.
jint check(JNIEnv* env, flexq_status status);

// A new byte[]; NULL for NULL, and with a pending OutOfMemoryError.
jbyteArray make_bytes(JNIEnv* env, const char* text, int64_t n_bytes);

// Hands an event to Callback.token(); its return value.
jint deliver(JNIEnv* env, jobject callback, const flexq_token_event* event);

// Element type T to the JNI's array type and functions.
template <typename T>
struct ArrayOf;

#define FLEXQ_ARRAY_OF(T, JType, Name)                                            \
  template <>                                                                     \
  struct ArrayOf<T> {                                                             \
    using Array = JType##Array;                                                   \
    static T* get(JNIEnv* env, Array array) {                                     \
      return reinterpret_cast<T*>(env->Get##Name##ArrayElements(array, nullptr)); \
    }                                                                             \
    static void release(JNIEnv* env, Array array, T* elements, jint mode) {       \
      auto* raw = reinterpret_cast<JType*>(elements);                             \
      env->Release##Name##ArrayElements(array, raw, mode);                        \
    }                                                                             \
  };
FLEXQ_ARRAY_OF(char, jbyte, Byte)
FLEXQ_ARRAY_OF(int32_t, jint, Int)
FLEXQ_ARRAY_OF(int64_t, jlong, Long)
FLEXQ_ARRAY_OF(float, jfloat, Float)
FLEXQ_ARRAY_OF(double, jdouble, Double)
#undef FLEXQ_ARRAY_OF

// The elements of a Java array for the length of a native call. A copy, or pinned by the JVM's own
// choice; never a critical region, since callbacks run during the call. An array that the call
// writes is given back with its new elements.
template <typename T, bool kWrites>
class Elements {
 public:
  Elements() = default;
  Elements(const Elements&) = delete;
  Elements& operator=(const Elements&) = delete;
  ~Elements() {
    if (data_) ArrayOf<T>::release(env_, array_, data_, kWrites ? 0 : JNI_ABORT);
  }

  // False with a pending OutOfMemoryError. A null array is no elements.
  bool open(JNIEnv* env, typename ArrayOf<T>::Array array) {
    if (!array) return true;
    env_ = env;
    array_ = array;
    size_ = env->GetArrayLength(array);
    data_ = ArrayOf<T>::get(env, array);
    return data_ != nullptr;
  }
  T* data() const { return data_; }
  jint size() const { return size_; }

 private:
  JNIEnv* env_ = nullptr;
  typename ArrayOf<T>::Array array_ = nullptr;
  T* data_ = nullptr;
  jint size_ = 0;
};

template <typename T>
using Input = Elements<T, false>;
template <typename T>
using Output = Elements<T, true>;

// One per callback type of flexq.h.
int32_t on_progress(int64_t done, int64_t total, void* user_data);
int32_t on_token(const flexq_token_event* event, void* user_data);
int32_t on_window(int32_t window, int32_t n_windows, double window_nll, void* user_data);
int32_t on_question(const flexq_question_result* result, void* user_data);
int32_t on_read(int64_t offset, void* buffer, int64_t n_bytes, void* user_data);
void on_log(int32_t level, const char* text, int64_t text_bytes, void* user_data);
void* on_allocate(int64_t n_bytes, int64_t alignment, void* user_data);
void on_free(void* memory, int64_t n_bytes, void* user_data);

}  // namespace flexq_java

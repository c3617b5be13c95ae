// Exceptions and arrays for the generated wrappers, and what is looked up once at load.
#include "flexq_jni.h"

#include <cstring>

#include "java_classes.h"

namespace flexq_java {

jint check(JNIEnv* env, flexq_status status) {
  // An exception that is pending already (no memory for an array, say) is the cause of the failure.
  if (status >= 0 || status == FLEXQ_ERROR_BUFFER_TOO_SMALL || env->ExceptionCheck()) return status;
  const char* message = flexq_last_error();
  jbyteArray bytes = make_bytes(env, message, static_cast<int64_t>(std::strlen(message)));
  if (!bytes) return status;
  const JavaClasses& classes = java_classes();
  jobject exception = env->NewObject(classes.exception, classes.exception_init, status, bytes);
  if (exception) env->Throw(static_cast<jthrowable>(exception));
  return status;
}

jbyteArray make_bytes(JNIEnv* env, const char* text, int64_t n_bytes) {
  if (!text) return nullptr;
  if (n_bytes > INT32_MAX) {
    env->ThrowNew(java_classes().out_of_memory, "text of more than 2^31 - 1 bytes");
    return nullptr;
  }
  const auto length = static_cast<jsize>(n_bytes);
  jbyteArray array = env->NewByteArray(length);
  if (array) env->SetByteArrayRegion(array, 0, length, reinterpret_cast<const jbyte*>(text));
  return array;
}

}  // namespace flexq_java

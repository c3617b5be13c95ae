#include "java_classes.h"

namespace flexq_java {
namespace {

JavaClasses classes;

jclass find(JNIEnv* env, const char* name) {
  jclass local = env->FindClass(name);
  if (!local) return nullptr;
  auto global = static_cast<jclass>(env->NewGlobalRef(local));
  env->DeleteLocalRef(local);
  return global;
}

// Whether everything is there; if not, the JVM's exception names what is missing.
bool look_up(JNIEnv* env) {
  classes.exception = find(env, "org/flexq/FlexqException");
  if (!classes.exception) return false;
  classes.exception_init = env->GetMethodID(classes.exception, "<init>", "(I[B)V");
  if (!classes.exception_init) return false;
  classes.out_of_memory = find(env, "java/lang/OutOfMemoryError");
  if (!classes.out_of_memory) return false;

  jclass callback = env->FindClass("org/flexq/internal/Callback");
  if (!callback) return false;
  const struct {
    jmethodID* id;
    const char* name;
    const char* signature;
  } methods[] = {
      {&classes.progress, "progress", "(JJ)I"}, {&classes.token, "token", "(III[BF[I[F)I"},
      {&classes.window, "window", "(IID)I"},    {&classes.question, "question", "(IIIII[D)I"},
      {&classes.read, "read", "(JI)[B"},        {&classes.log, "log", "(I[B)V"},
      {&classes.allocate, "allocate", "(JJ)J"}, {&classes.free, "free", "(JJ)V"},
  };
  for (const auto& method : methods) {
    *method.id = env->GetMethodID(callback, method.name, method.signature);
    if (!*method.id) return false;
  }
  env->DeleteLocalRef(callback);
  return true;
}

}  // namespace

const JavaClasses& java_classes() {
  return classes;
}

}  // namespace flexq_java

extern "C" JNIEXPORT jint JNICALL JNI_OnLoad(JavaVM* vm, void*) {
  constexpr jint kVersion = JNI_VERSION_1_8;
  void* env = nullptr;
  if (vm->GetEnv(&env, kVersion) != JNI_OK) return JNI_ERR;
  flexq_java::classes.vm = vm;
  return flexq_java::look_up(static_cast<JNIEnv*>(env)) ? kVersion : JNI_ERR;
}

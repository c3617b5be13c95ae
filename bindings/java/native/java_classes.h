// The Java classes and methods that native code calls, looked up when the library is loaded: a
// thread of the library's own has no class loader that would find them later.
#pragma once

#include <jni.h>

namespace flexq_java {

struct JavaClasses {
  JavaVM* vm;
  jclass exception;          // org.flexq.FlexqException
  jmethodID exception_init;  // (int status, byte[] message)
  jclass out_of_memory;      // java.lang.OutOfMemoryError

  // Methods of org.flexq.internal.Callback.
  jmethodID progress;
  jmethodID token;
  jmethodID window;
  jmethodID question;
  jmethodID read;
  jmethodID log;
  jmethodID allocate;
  jmethodID free;
};

const JavaClasses& java_classes();

}  // namespace flexq_java

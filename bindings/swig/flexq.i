/* include/flexq.h for Java and C#. SWIG makes one class of static native functions, FlexqNative, that
 * is internal to each binding; the public classes over it are written by hand.
 *
 * The language files define, before the header is read:
 *   FLEXQ_HANDLE(TYPE)     an opaque handle: crosses the border as a number, in both directions
 *   FLEXQ_CALLBACK(TYPE)   a function pointer, with the user_data behind it
 * and typemaps for status (an exception), text (bytes and length, never a native string), arrays and
 * buffers. Everything the header declares is wrapped but what the language files ignore. */
%module FlexqNative

%{
#include "flexq.h"
%}

%include "stdint.i"

#if defined(SWIGJAVA)
%include "flexq_java.swg"
#elif defined(SWIGCSHARP)
%include "flexq_csharp.swg"
#endif

FLEXQ_HANDLE(flexq_batch)
FLEXQ_HANDLE(flexq_bundle)
FLEXQ_HANDLE(flexq_chat)
FLEXQ_HANDLE(flexq_context)
FLEXQ_HANDLE(flexq_context_options)
FLEXQ_HANDLE(flexq_continuations)
FLEXQ_HANDLE(flexq_engine)
FLEXQ_HANDLE(flexq_engine_options)
FLEXQ_HANDLE(flexq_generator)
FLEXQ_HANDLE(flexq_generator_options)
FLEXQ_HANDLE(flexq_model)
FLEXQ_HANDLE(flexq_model_options)
FLEXQ_HANDLE(flexq_quantize_options)
FLEXQ_HANDLE(flexq_questions)
FLEXQ_HANDLE(flexq_request)
FLEXQ_HANDLE(flexq_sampling)
FLEXQ_HANDLE(flexq_source)
FLEXQ_HANDLE(flexq_tokenizer)

FLEXQ_CALLBACK(flexq_allocate_callback)
FLEXQ_CALLBACK(flexq_free_callback)
FLEXQ_CALLBACK(flexq_log_callback)
FLEXQ_CALLBACK(flexq_progress_callback)
FLEXQ_CALLBACK(flexq_question_callback)
FLEXQ_CALLBACK(flexq_read_callback)
FLEXQ_CALLBACK(flexq_token_callback)
FLEXQ_CALLBACK(flexq_window_callback)

%include "flexq.h"

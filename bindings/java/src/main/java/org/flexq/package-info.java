/**
 * FlexQ for Java: LLaMA models with 6-bit weights and 6- or 8-bit activations.
 *
 * <pre>{@code
 * try (Model model = Model.load(Path.of("model.flexq"));
 *     Context context = model.createContext()) {
 *   context.generate("Once upon a time", new GeneratorOptions().maxTokens(100), event -> {
 *     System.out.print(event.text());
 *     return true;
 *   });
 * }
 * }</pre>
 *
 * <p><b>Ownership.</b> Classes with a close method own a native object. They keep alive natively
 * what they depend on (a context its model, a generator or an engine its context), so the order of
 * closing does not matter; only that an engine that is closed cancels its requests. Closing is safe
 * while another thread is inside a call on the object: that call ends first. A call on a closed
 * object throws {@link java.lang.IllegalStateException}. An object that is never closed is released
 * some time after it becomes unreachable (an engine can be reached through its requests); the
 * garbage collector does not know how large it is, so close models and contexts.
 *
 * <p><b>Errors.</b> What the library refuses is a {@link org.flexq.FlexqException} with a code and
 * a message. An exception that is thrown in a callback stops the operation and reaches the caller
 * of the operation as it is.
 *
 * <p><b>Threads.</b> {@link org.flexq.Model}, {@link org.flexq.Tokenizer}, {@link
 * org.flexq.Source}, {@link org.flexq.Bundle}, {@link org.flexq.Questions} and {@link
 * org.flexq.Engine} may be used from any number of threads at once. A {@link org.flexq.Context},
 * with the generators on it, is used by one thread at a time: a call from another thread while one
 * is inside throws INVALID_STATE and changes nothing. {@link org.flexq.Generator#cancel()}, {@link
 * org.flexq.Request#cancel()} and {@link org.flexq.Batch#cancel()} may be called from any thread at
 * any time. All other classes belong to one thread at a time (a call on a batch, chat or list of
 * continuations that another call uses throws IllegalStateException, and so does a second reader of
 * a request); records are immutable. Callbacks run on the thread that called, where nothing else is
 * said, and must not call back into the object that they were called for, except to cancel.
 *
 * <p><b>Text</b> is Unicode; strings of any content, zero characters included, reach the library as
 * UTF-8. Arguments that may be null say so.
 */
package org.flexq;

/* Calls a token callback as flexq_generator_run does, without computing tokens in between. */
#include <flexq.h>

__attribute__((visibility("default"))) int32_t call_many_times(int32_t count,
                                                               flexq_token_callback callback,
                                                               const flexq_token_event* event,
                                                               void* user_data);

/* Returns how many calls asked to stop. */
int32_t call_many_times(int32_t count, flexq_token_callback callback,
                        const flexq_token_event* event, void* user_data) {
  int32_t n_stopped = 0;
  for (int32_t i = 0; i < count; ++i)
    if (callback(event, user_data) != 0) ++n_stopped;
  return n_stopped;
}

package org.flexq;

import org.flexq.internal.PlanStruct;
import org.flexq.internal.Utf8;

/**
 * Memory that a model and one context take on one device, from the code that allocates. Exact for
 * the library's pools; staging while loading and small host objects come on top (under 64 MiB).
 *
 * @param kind of the device
 * @param device its id: "cpu", "cuda:0"
 * @param weightBytes of the model
 * @param kvBytes page pool of the context
 * @param kvBytesPerToken of one token in the KV cache
 * @param workspaceBytes activations, logits, block tables
 * @param totalBytes all of it
 * @param contextTokens longest sequence, as resolved from the options
 * @param nSequences that live side by side
 * @param chunkTokens computed at once
 * @param pageTokens in one page of the KV cache
 */
public record ModelPlan(
    DeviceKind kind,
    String device,
    long weightBytes,
    long kvBytes,
    long kvBytesPerToken,
    long workspaceBytes,
    long totalBytes,
    int contextTokens,
    int nSequences,
    int chunkTokens,
    int pageTokens) {

  static ModelPlan of(PlanStruct plan) {
    return new ModelPlan(
        DeviceKind.of(plan.getKind()),
        Utf8.string(plan.getDevice()),
        plan.getWeight_bytes(),
        plan.getKv_bytes(),
        plan.getKv_bytes_per_token(),
        plan.getWorkspace_bytes(),
        plan.getTotal_bytes(),
        plan.getContext_tokens(),
        plan.getN_sequences(),
        plan.getChunk_tokens(),
        plan.getPage_tokens());
  }
}

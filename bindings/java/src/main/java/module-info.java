/** FlexQ: an embeddable runtime for LLaMA models with 6-bit weights. */
module org.flexq {
  exports org.flexq;
}

// A server with the OpenAI API as the target of a load test.
#pragma once

#include "http/http_transport.h"
#include "load/load_target.h"

namespace flexq_tool {

class UrlTarget final : public LoadTarget {
 public:
  UrlTarget(const HttpTransport& transport, std::string url, const std::string& api_key);

  // Asks the server which model it serves; reports a failure. Returns an exit code.
  int connect();
  const std::string& model() const { return model_; }
  std::unique_ptr<LoadClient> make_client() override;

 private:
  const HttpTransport& transport_;
  const std::string url_;
  HttpHeaders headers_;
  std::string model_;
};

}  // namespace flexq_tool

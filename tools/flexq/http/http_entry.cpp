// What the tool finds in this library.
#include "httplib_client.h"
#include "httplib_server.h"

extern "C" __attribute__((visibility("default")))
const flexq_tool::HttpTransport flexq_http_transport;
extern "C" const flexq_tool::HttpTransport flexq_http_transport = {
    flexq_tool::HttplibServer::create, flexq_tool::HttplibClient::create};

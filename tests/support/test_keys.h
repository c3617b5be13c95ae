// Ed25519 keys of the tests, as `openssl genpkey` and `openssl pkey -pubout` write them. Public, so
// good for nothing else.
#pragma once

#include <string_view>

namespace flexq::test {

inline constexpr std::string_view kTestSecretKey =
    "-----BEGIN PRIVATE KEY-----\n"
    "MC4CAQAwBQYDK2VwBCIEIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g\n"
    "-----END PRIVATE KEY-----\n";
inline constexpr std::string_view kTestPublicKey =
    "-----BEGIN PUBLIC KEY-----\n"
    "MCowBQYDK2VwAyEAebVWLo/mVPlAeLES6KmLp5AfhTrmlb7X4OORC60ElmQ=\n"
    "-----END PUBLIC KEY-----\n";
// `openssl pkey -pubout -outform DER | tail -c 32`, in hexadecimal digits.
inline constexpr std::string_view kTestKeyId =
    "79b5562e8fe654f94078b112e8a98ba7901f853ae695bed7e0e3910bad049664";
inline constexpr std::string_view kOtherPublicKey =
    "-----BEGIN PUBLIC KEY-----\n"
    "MCowBQYDK2VwAyEAP8tC6x2WsPHIIj0ReDGUPg45+t0zK237PQyIUMMxsDg=\n"
    "-----END PUBLIC KEY-----\n";

}  // namespace flexq::test

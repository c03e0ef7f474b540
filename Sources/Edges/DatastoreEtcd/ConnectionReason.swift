/// Why a connection failed, in words that say what to do.
import NIOCore
import NIOHTTP2
import NIOPosix
import NIOSSL

/// A reason of our own.
struct ConnectionFault: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
  /// The other side closed before it said anything.
  static let closedEarly = ConnectionFault("closed early")
}

enum ConnectionReason {
  static func text(_ error: any Error, usesTLS: Bool, tls: TLSSide?) -> String {
    switch error {
    case let fault as ConnectionFault:
      guard fault.description == ConnectionFault.closedEarly.description else { return fault.description }
      return usesTLS
        ? "it closed the connection without a word; does it speak TLS? Without TLS write etcd:// or http://"
        : "it closed the connection without a word; does it want TLS? Then write etcds:// or https://"
    case let error as IOError:
      // A server without TLS closes with our handshake unread, which resets the connection.
      return system(error.errnoCode) + (usesTLS && error.errnoCode == ECONNRESET ? "; does it speak TLS? Without TLS write etcd:// or http://" : "")
    case let error as NIOConnectionError:
      if let last = error.connectionErrors.last { return text(last.error, usesTLS: usesTLS, tls: tls) }
      return "the name \(error.host) does not resolve"
    case ChannelError.connectTimeout(let time): return "no answer within \(time.nanoseconds / 1_000_000_000) s"
    case is NIOHTTP2Errors.BadClientMagic, is NIOHTTP2Errors.UnableToParseFrame: return noHTTP2(usesTLS)
    case is NIOSSLExtraError, is NIOSSLError, is BoringSSLError: return handshake(error, tls)
    case let error as NIOHTTP2Errors.StreamClosed: return "it ended the call (\(error.errorCode))"
    case ChannelError.ioOnClosedChannel, ChannelError.alreadyClosed, ChannelError.eof: return "it closed the connection"
    default:
      let text = "\(error)"
      // The codec's error for octets that are no frame has no public type.
      return text.hasPrefix("codecError") ? noHTTP2(usesTLS) : text
    }
  }
  private static func noHTTP2(_ usesTLS: Bool) -> String {
    "it does not speak HTTP/2" + (usesTLS ? "" : "; does it want TLS? Then write etcds:// or https://")
  }

  private static func system(_ code: CInt) -> String {
    switch code {
    case ECONNREFUSED: "connection refused: nothing listens there"
    case EHOSTUNREACH, ENETUNREACH: "no route to it"
    case ETIMEDOUT: "no answer"
    case ECONNRESET: "it reset the connection"
    default: "\(IOError(errnoCode: code, reason: "connection"))"
    }
  }

  private static func handshake(_ error: any Error, _ tls: TLSSide?) -> String {
    let words = boring(error)
    let ca = tls?.configuration.caFile
    if error is NIOSSLExtraError {
      return
        "its certificate is not for this name: \(words). Use the name or address that the certificate holds, or name it in MARGAY_ETCD_SERVER_NAME"
    }
    if words.contains("WRONG_VERSION_NUMBER") || words.contains("HTTP_REQUEST") || words.contains("INVALID_OUTER_RECORD_TYPE") {
      return "it does not speak TLS; without TLS write etcd:// or http://"
    }
    if words.contains("EOF during handshake") {
      return "it closes the connection when TLS begins; does it speak TLS? Without TLS write etcd:// or http://"
    }
    if words.contains("CERTIFICATE_VERIFY_FAILED") {
      return "its certificate is signed by none of the authorities in \(ca ?? "this machine's list"); name the right file in ETCD_CA_CERT_FILE"
    }
    if words.contains("CERTIFICATE_REQUIRED") || (tls?.configuration.certificateFile == nil && words.contains("BAD_CERTIFICATE")) {
      return "it wants a client certificate: name one in ETCD_CERT_FILE, and its key in ETCD_KEY_FILE"
    }
    for refused in ["BAD_CERTIFICATE", "UNKNOWN_CA", "CERTIFICATE_UNKNOWN", "CERTIFICATE_EXPIRED", "UNSUPPORTED_CERTIFICATE", "DECRYPT_ERROR"]
    where words.contains("ALERT") && words.contains(refused) {
      if let fault = CertificateDates.fault(ofOurs: tls) { return "it refuses our certificate: \(fault); renew it" }
      let file = tls?.configuration.certificateFile ?? "without a certificate"
      return "it refuses our certificate (\(file)): \(refused.lowercased().replacing("_", with: " ")); it must be signed by etcd's --trusted-ca-file"
    }
    return "TLS: \(words)"
  }

  /// BoringSSL's own words, without numbers and places in its source.
  static func boring(_ error: any Error) -> String {
    let text = "\(error)"
    guard let start = text.firstRange(of: "OPENSSL_internal:") else { return text }
    return String(text[start.upperBound...].prefix { $0 != " " && $0 != ":" && $0 != ")" && $0 != "]" })
  }
}

extension TimeAmount {
  init(_ duration: Duration) {
    let (seconds, attoseconds) = duration.components
    self = .nanoseconds(seconds * 1_000_000_000 + attoseconds / 1_000_000_000)
  }
}

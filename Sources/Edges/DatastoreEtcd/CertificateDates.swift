/// Certificates end, and TLS says only that something is not right. Here is found out which of the three has ended, and when: the member's,
/// ours, or the authority's.
import Names
import NIOCore
import NIOPosix
import NIOSSL
import NIOTLS

enum CertificateDates {
  /// Nil: it is valid today.
  static func fault(_ certificate: NIOSSLCertificate, now: UTCTime = .now()) -> String? {
    let (begin, end) = (Int64(certificate.notValidBefore), Int64(certificate.notValidAfter))
    if now.unixSeconds > end { return "expired on \(UTCTime(unixSeconds: end).text)" }
    if now.unixSeconds < begin { return "is valid only from \(UTCTime(unixSeconds: begin).text) on; is this machine's clock right?" }
    return nil
  }

  /// Why the member's certificate does not convince us, if it is a matter of dates.
  static func fault(ofMember endpoint: EtcdEndpoint, _ tls: TLSSide, timeout: Duration) async -> String? {
    if let certificate = await shown(by: endpoint, timeout: timeout), let fault = fault(certificate) {
      return "its certificate \(fault)" + (fault.hasPrefix("expired") ? ": renew it on that host (etcd's --cert-file)" : "")
    }
    guard let file = tls.configuration.caFile, let authorities = try? NIOSSLCertificate.fromPEMFile(file) else { return nil }
    let faults = authorities.compactMap { fault($0) }
    return faults.count == authorities.count ? faults.first.map { "the authority in \(file) \($0)" } : nil
  }

  /// Why our own certificate does not convince the member, if it is a matter of dates.
  static func fault(ofOurs tls: TLSSide?) -> String? {
    guard let file = tls?.configuration.certificateFile, let own = try? NIOSSLCertificate.fromPEMFile(file).first else { return nil }
    return fault(own).map { "our certificate \(file) \($0)" }
  }

  /// The certificate as it is shown to whoever asks. It is not trusted, and nothing is said to the other side but goodbye.
  private static func shown(by endpoint: EtcdEndpoint, timeout: Duration) async -> NIOSSLCertificate? {
    var configuration = TLSConfiguration.makeClientConfiguration()
    configuration.certificateVerification = .none
    configuration.applicationProtocols = ["h2"]
    guard let context = try? NIOSSLContext(configuration: configuration) else { return nil }
    let loop = MultiThreadedEventLoopGroup.singleton.next()
    let certificate = loop.makePromise(of: NIOSSLCertificate?.self)
    let clock = loop.scheduleTask(in: TimeAmount(timeout)) { certificate.succeed(nil) }
    let channel = try? await ClientBootstrap(group: loop).connectTimeout(TimeAmount(timeout)).channelInitializer { channel in
      channel.eventLoop.makeCompletedFuture {
        try channel.pipeline.syncOperations.addHandlers([
          try NIOSSLClientHandler(context: context, serverHostname: nil), Listener(certificate),
        ])
      }
    }.connect(host: endpoint.host, port: endpoint.port).get()
    if channel == nil { certificate.succeed(nil) }
    let found = try? await certificate.futureResult.get()
    clock.cancel()
    channel?.close(promise: nil)
    return found ?? nil
  }

  private final class Listener: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    private let certificate: EventLoopPromise<NIOSSLCertificate?>
    init(_ certificate: EventLoopPromise<NIOSSLCertificate?>) { self.certificate = certificate }
    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
      if case TLSUserEvent.handshakeCompleted = event {
        certificate.succeed(try? context.pipeline.syncOperations.nioSSL_peerCertificate())
      }
      context.fireUserInboundEventTriggered(event)
    }
    func errorCaught(context: ChannelHandlerContext, error: any Error) {
      certificate.succeed(nil)
      context.close(promise: nil)
    }
    func channelInactive(context: ChannelHandlerContext) { certificate.succeed(nil) }
  }
}

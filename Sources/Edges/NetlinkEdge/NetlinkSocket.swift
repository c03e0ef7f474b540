/// A netlink socket: batches out, per-message answers in, dumps that are whole.
///
/// Hazards and the answers:
/// - The kernel handles a request inside the send call, so all answers to it are queued when send returns: they are read without
///   blocking, and a missing one is an error, never a wait.
/// - A dump may be interrupted by a change (NLM_F_DUMP_INTR, at any of its messages): it is repeated from the start.
/// - A queue may overflow (ENOBUFS). For a request its message's answer is lost: error. For a monitor: `.overrun`, and the caller reads
///   everything again.
/// - Answers to a request that failed half-way must not be taken for answers to the next: sequence and port are compared.
/// - Other processes may send us messages: what does not come from port 0, the kernel, is dropped.

import CLinux
import Glibc
public import NetlinkMessages
public import Octets
public import Sockets
import Synchronization

public enum NetlinkFamily: CInt, Sendable, CaseIterable {
  case route = 0
  case netfilter = 12
}

/// Counts over the whole process what was sent to change the kernel: "a restart changes nothing" is checked against these.
public enum NetlinkStatistics {
  private static let route = Atomic<Int>(0)
  private static let netfilter = Atomic<Int>(0)

  /// Messages sent so far that ask for a change (not: reads, dumps, the frame of an nftables batch).
  public static func mutations(_ family: NetlinkFamily) -> Int {
    switch family {
    case .route: route.load(ordering: .relaxed)
    case .netfilter: netfilter.load(ordering: .relaxed)
    }
  }
  public static var mutations: Int { mutations(.route) + mutations(.netfilter) }

  static func count(_ batch: NetlinkBatch, _ family: NetlinkFamily) -> Int {
    var changes = 0
    for index in 0..<batch.count where isChange(batch.type(ofMessage: index), family) { changes += 1 }
    switch family {
    case .route: route.add(changes, ordering: .relaxed)
    case .netfilter: netfilter.add(changes, ordering: .relaxed)
    }
    return changes
  }

  static func isChange(_ type: UInt16, _ family: NetlinkFamily) -> Bool {
    switch family {
    case .route: return type & 3 != 2  // rtnetlink: NEW 0, DEL 1, GET 2, SET 3 of each kind
    case .netfilter:
      let message = type & 0xff
      switch type >> 8 {
      case 0: return false  // batch begin and end
      case 4: return false  // nfnetlink_log: who listens changes nothing
      case 1, 2: return message != 1 && message != 3 && message < 4  // conntrack: GET 1, GET_CTRZERO 3, statistics above
      case 10:
        // nf_tables: every GET and the trace message; the resetting GETs change counters only.
        return ![1, 4, 7, 10, 13, 16, 17, 19, 21, 23].contains(message)
      default: return true
      }
    }
  }
}

/// One socket, one owner at a time: not Sendable, needs no lock.
public final class NetlinkSocket {
  public enum Reception: Equatable, Sendable {
    /// Everything that was there has been handed over.
    case drained
    /// Messages were lost; read the whole state again.
    case overrun
  }

  public let family: NetlinkFamily
  public let descriptor: OwnedDescriptor
  /// Our address; the kernel's notifications about our own changes carry it in the header.
  public let port: UInt32
  /// Of this socket alone, counted as `NetlinkStatistics` does for the process.
  public private(set) var mutationsSent = 0
  /// How many dumps were thrown away because something changed under way.
  public private(set) var dumpsRepeated = 0
  private var sequence: UInt32
  private var sendCapacity: Int
  private var buffer: [UInt8]
  /// What the descriptor has; 0: nothing yet.
  private var timeoutMilliseconds = 0
  private static let timeoutWanted = Atomic(10_000)
  /// How long the next message of a dump may take, of all sockets. Answers come without delay: the limit only guards against a kernel that
  /// never says "done".
  public static var timeout: Duration {
    get { .milliseconds(timeoutWanted.load(ordering: .relaxed)) }
    set { timeoutWanted.store(max(1, Int(clamping: newValue.wholeNanoseconds / 1_000_000)), ordering: .relaxed) }
  }

  /// `groups` are multicast group numbers (RTNLGRP_..., NFNLGRP_...) to listen to. `namespace` is a descriptor of a network
  /// namespace: the socket lives there; nil is the namespace of the calling thread.
  public init(_ family: NetlinkFamily, groups: [UInt32] = [], namespace: CInt? = nil, bufferOctets: Int = 4 << 20) throws(NetlinkError) {
    var port: UInt32 = 0
    var failure: CInt = 0
    var raw: CInt = -1
    let what = "open a netlink socket (\(family))"
    do throws(SystemError) {
      try inNamespace(namespace) {
        raw = unsafe cl_netlink_open(family.rawValue, CInt(bufferOctets), &port)
        if raw < 0 { failure = errno }
      }
    } catch {
      throw NetlinkError(code: error.code, what: "\(what): \(error.operation)")
    }
    guard raw >= 0 else { throw NetlinkError(code: failure, what: what) }
    self.family = family
    self.port = port
    descriptor = OwnedDescriptor(owning: raw)
    sendCapacity = bufferOctets
    buffer = [UInt8](repeating: 0, count: 128 << 10)
    sequence = 1
    if family == .route { _ = cl_netlink_strict(raw) }
    for group in groups where cl_netlink_join(raw, group) < 0 {
      throw NetlinkError(code: errno, what: "join netlink group \(group) (\(family))")
    }
  }

  /// Listens to the group, or no longer; false if the kernel refuses.
  public func listen(to group: UInt32, _ isListening: Bool) -> Bool {
    (isListening ? cl_netlink_join(descriptor.borrowed, group) : cl_netlink_leave(descriptor.borrowed, group)) == 0
  }

  // MARK: Requests

  /// Sends the batch in ONE call and returns an error, or nil, for each message, in order.
  ///
  /// A message with `.acknowledge` and no answer is an error (ENOBUFS); one without it fails only when the kernel says so, or when answers
  /// were lost. Throws when nothing could be sent. `onMessage` receives whatever else came back: answers to a GET, echoes.
  public func request(
    _ batch: inout NetlinkBatch, what: String = "netlink request", onMessage: ((NetlinkHeader, inout OctetReader) -> Void)? = nil
  ) throws(NetlinkError) -> [NetlinkError?] {
    guard !batch.isEmpty else { return [] }
    let first = sequence
    let count = batch.count
    sequence &+= UInt32(truncatingIfNeeded: count)
    batch.setSequences(from: first)
    try send(batch, what: what)

    var results = [NetlinkError?](repeating: nil, count: count)
    var answered = [Bool](repeating: false, count: count)
    var lost = false
    receiving: while true {
      switch receiveDatagram(wait: false) {
      case .nothing: break receiving
      case .overrun: lost = true
      case .failed(let code): throw NetlinkError(code: code, what: what)
      case .octets(let length):
        try walk(length, what: what) { header, body throws(WireError) in
          let index = Int(header.sequence &- first)
          guard header.port == port, index < count else { return }
          switch header.type {
          case NetlinkHeader.errorType:
            answered[index] = true
            if let error = try Self.error(header, &body) { results[index] = error.about(what) }
          case NetlinkHeader.doneType: answered[index] = true
          default: onMessage?(header, &body)
          }
        }
      }
    }
    // What overflowed may have been the error of a message that asked for no answer.
    for index in 0..<count where !answered[index] && (lost || batch.flags(ofMessage: index).contains(.acknowledge)) {
      results[index] = NetlinkError(code: ENOBUFS, message: lost ? "answer lost" : "no answer", what: what)
    }
    return results
  }

  /// One message that must succeed.
  public func request(
    type: UInt16, flags: NetlinkFlags = [.acknowledge], what: String, body: (inout OctetWriter) -> Void
  ) throws(NetlinkError) {
    var batch = NetlinkBatch()
    batch.add(type: type, flags: flags.union(.acknowledge), body: body)
    if let error = try request(&batch, what: what)[0] { throw error }
  }

  private func send(_ batch: NetlinkBatch, what: String) throws(NetlinkError) {
    let octets = batch.octets
    if octets.count + 4096 > sendCapacity {
      let wanted = octets.count + octets.count / 4 + 4096
      _ = cl_netlink_send_buffer(descriptor.borrowed, CInt(clamping: wanted))
      sendCapacity = wanted
    }
    mutationsSent += NetlinkStatistics.count(batch, family)
    let sent = unsafe octets.withUnsafeBytes { unsafe cl_netlink_send(descriptor.borrowed, $0.baseAddress, $0.count) }
    if sent < 0 { throw NetlinkError(code: errno, what: "\(what): send \(octets.count) octets") }
  }

  // MARK: Dumps

  /// Everything of one kind, as of one moment: an interrupted dump is thrown away and repeated.
  ///
  /// `decode` turns one message into a value, or nil to leave it out; a message it cannot read is left out as well, since one odd
  /// object must not hide all others. `body` writes the family header and filter attributes.
  public func dump<Value>(
    type: UInt16, flags: NetlinkFlags = .dump, what: String, body: (inout OctetWriter) -> Void,
    decode: (NetlinkHeader, inout OctetReader) throws(WireError) -> Value?
  ) throws(NetlinkError) -> [Value] {
    let attemptsMax = 20
    let timeout = Self.timeoutWanted.load(ordering: .relaxed)
    if timeout != timeoutMilliseconds, cl_netlink_receive_timeout(descriptor.borrowed, CInt(clamping: timeout)) == 0 { timeoutMilliseconds = timeout }
    for attempt in 1...attemptsMax {
      var batch = NetlinkBatch()
      batch.add(type: type, flags: flags, body: body)
      let mine = sequence
      sequence &+= 1
      batch.setSequences(from: mine)
      try send(batch, what: what)

      var values: [Value] = []
      var interrupted = false
      var done = false
      var failure: NetlinkError?
      while !done {
        switch receiveDatagram(wait: true) {
        case .nothing: throw NetlinkError(code: ETIMEDOUT, what: what)
        case .overrun:
          // What was lost may have been the end: nothing more might come. The next attempt's answers have another sequence.
          interrupted = true
          done = true
        case .failed(let code): throw NetlinkError(code: code, what: what)
        case .octets(let length):
          try walk(length, what: what) { header, body throws(WireError) in
            guard header.port == port, header.sequence == mine, !done else { return }
            if header.flags.contains(.dumpInterrupted) { interrupted = true }
            switch header.type {
            case NetlinkHeader.errorType:
              failure = try Self.error(header, &body)
              done = true
            case NetlinkHeader.doneType:
              // The result of the dump stands in DONE: a negative errno when the kernel gave up half-way.
              if body.remaining >= 4 {
                let code = Int32(bitPattern: try body.hostU32())
                if code < 0 { failure = NetlinkError(code: -code, message: try? Self.extendedText(&body), what: what) }
              }
              done = true
            default:
              if let value = try? decode(header, &body) { values.append(value) }
            }
          }
        }
      }
      if let failure {
        guard failure.code == EINTR || failure.code == EAGAIN || failure.code == EBUSY, attempt < attemptsMax else {
          throw failure.about(what)
        }
      } else if !interrupted {
        return values
      }
      dumpsRepeated += 1
    }
    throw NetlinkError(code: EINTR, message: "the dump was interrupted \(attemptsMax) times", what: what)
  }

  // MARK: Monitoring

  /// Hands over every notification that waits; never blocks. Call when the descriptor is readable.
  public func receive(_ handler: (NetlinkHeader, inout OctetReader) -> Void) -> Reception {
    var overrun = false
    while true {
      switch receiveDatagram(wait: false) {
      case .nothing: return overrun ? .overrun : .drained
      case .overrun, .failed: overrun = true
      case .octets(let length):
        do throws(NetlinkError) {
          try walk(length, what: "notification") { header, body throws(WireError) in handler(header, &body) }
        } catch {
          overrun = true
        }
      }
    }
  }

  // MARK: Datagrams

  private enum Datagram {
    case octets(Int)
    case nothing
    case overrun
    case failed(CInt)
  }

  private func receiveDatagram(wait: Bool) -> Datagram {
    while true {
      var sender: UInt32 = 0
      var truncated: CInt = 0
      let count = unsafe cl_netlink_receive(descriptor.borrowed, &buffer, buffer.count, wait ? 1 : 0, &sender, &truncated)
      if count < 0 {
        let code = errno
        if code == EAGAIN { return .nothing }
        if code == ENOBUFS { return .overrun }
        return .failed(code)
      }
      if sender != 0 { continue }
      if truncated != 0 {
        // Larger than any message we know of: its end is lost, but the next one of this size will fit.
        buffer = [UInt8](repeating: 0, count: buffer.count * 4)
        return .overrun
      }
      return .octets(count)
    }
  }

  /// Walks the messages of the datagram in `buffer`. A body that `handle` cannot read ends that message only.
  private func walk(
    _ length: Int, what: String, _ handle: (NetlinkHeader, inout OctetReader) throws(WireError) -> Void
  ) throws(NetlinkError) {
    // A reference, not a copy: the buffer is filled again only after this walk.
    let octets = buffer
    var reader = OctetReader(octets.span.extracting(0..<length))
    do throws(WireError) {
      while reader.remaining >= NetlinkHeader.size {
        let header = try NetlinkHeader(decoding: &reader)
        var body = try reader.nested(Int(header.length) - NetlinkHeader.size)
        try handle(header, &body)
        try reader.skip(min(-Int(header.length) & 3, reader.remaining))
      }
    } catch {
      throw NetlinkError(code: EBADMSG, message: error.description, what: what)
    }
  }

  /// nlmsgerr: the errno (0 is an acknowledgement), the header of the request, and with NLM_F_ACK_TLVS attributes that explain.
  private static func error(_ header: NetlinkHeader, _ body: inout OctetReader) throws(WireError) -> NetlinkError? {
    let code = Int32(bitPattern: try body.hostU32())
    guard code != 0 else { return nil }
    let isCapped = header.flags.rawValue & 0x100 != 0
    let hasAttributes = header.flags.rawValue & 0x200 != 0
    let requestLength = Int(try body.hostU32())
    var message: String?
    if hasAttributes {
      try body.skip(12)
      if !isCapped { try body.skip(max(0, (requestLength + 3) & ~3 - NetlinkHeader.size)) }
      message = try? extendedText(&body)
    }
    return NetlinkError(code: code < 0 ? -code : code, message: message, what: "netlink request")
  }

  private static func extendedText(_ body: inout OctetReader) throws(WireError) -> String? {
    var text: String?
    try body.attributes { type, value throws(WireError) in
      if type == 1 { text = try value.text() }  // NLMSGERR_ATTR_MSG
    }
    return text
  }
}

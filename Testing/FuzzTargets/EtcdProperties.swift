/// What etcd answers. The client only reads these messages, so their writer stands here, by the rules of the wire format.
import EtcdMessages
import Octets

/// The first octet chooses the kind of answer, the rest is the message.
func checkEtcd(_ octets: [UInt8]) throws(Violation) {
  var choices = Choices(octets)
  let kind = choices.number(below: 6)
  let body = choices.rest()
  switch kind {
  case 0: try checkAgain(body, EtcdRangeResponse.init(decoding:), write)
  case 1:
    try checkAgain(body, EtcdTransactionResponse.init(decoding:)) { response in
      Wire.message(1, write(response.header)) + Wire.number(2, response.succeeded ? 1 : 0)
        + response.ranges.flatMap { Wire.message(3, $0.map { Wire.message(1, write($0)) } ?? []) }
    }
  case 2:
    try checkAgain(body, EtcdWatchResponse.init(decoding:)) { response in
      let flags = Wire.number(3, response.isCreated ? 1 : 0) + Wire.number(4, response.isCancelled ? 1 : 0)
      let rest = Wire.number(5, UInt64(bitPattern: response.compactRevision)) + Wire.message(6, Array(response.cancelReason.utf8))
      let events = response.events.flatMap { event in
        Wire.message(11, Wire.number(1, event.isDelete ? 1 : 0) + Wire.message(2, write(event.item)))
      }
      return Wire.message(1, write(response.header)) + flags + rest + Wire.number(7, response.isFragment ? 1 : 0) + events
    }
  case 3:
    try checkAgain(body, EtcdLeaseResponse.init(decoding:)) { response in
      let numbers = Wire.number(2, UInt64(bitPattern: response.lease)) + Wire.number(3, UInt64(bitPattern: response.seconds))
      return Wire.message(1, write(response.header)) + numbers
    }
  case 4:
    try checkAgain(body, EtcdAuthenticateResponse.init(decoding:)) { response in
      Wire.message(1, write(response.header)) + Wire.message(2, Array(response.token.utf8))
    }
  default: try checkAgain(body, EtcdPlainResponse.init(decoding:)) { Wire.message(1, write($0.header)) }
  }
}

private func checkAgain<Response: Equatable>(
  _ octets: [UInt8], _ decode: (inout OctetReader) throws(WireError) -> Response, _ write: (Response) -> [UInt8]
) throws(Violation) {
  func read(_ octets: [UInt8]) -> Response? {
    var reader = OctetReader(octets.span)
    return try? decode(&reader)
  }
  guard let response = read(octets) else { return }
  let written = write(response)
  try claim(read(written) == response, "\(response) reads back as \(String(describing: read(written)))")
  // The rule for growth: what nobody knows is stepped over, wherever it stands.
  let unknown = Wire.message(2000, [1, 2, 3]) + Wire.number(2001, 300)
  try claim(read(unknown + written + unknown) == response, "unknown fields change \(response)")
}

private func write(_ header: EtcdHeader) -> [UInt8] {
  Wire.number(1, header.clusterID) + Wire.number(2, header.memberID) + Wire.number(3, UInt64(bitPattern: header.revision))
}

private func write(_ item: EtcdKeyValue) -> [UInt8] {
  let revisions = Wire.number(2, UInt64(bitPattern: item.createRevision)) + Wire.number(3, UInt64(bitPattern: item.modRevision))
  return Wire.message(1, item.key) + revisions + Wire.message(5, item.value) + Wire.number(6, UInt64(bitPattern: item.lease))
}

private func write(_ response: EtcdRangeResponse) -> [UInt8] {
  Wire.message(1, write(response.header)) + response.items.flatMap { Wire.message(2, write($0)) } + Wire.number(3, response.hasMore ? 1 : 0)
}

private enum Wire {
  static func varint(_ value: UInt64) -> [UInt8] {
    value < 128 ? [UInt8(value)] : [UInt8(truncatingIfNeeded: value) | 128] + varint(value >> 7)
  }
  static func number(_ field: UInt64, _ value: UInt64) -> [UInt8] { varint(field << 3) + varint(value) }
  static func message(_ field: UInt64, _ octets: [UInt8]) -> [UInt8] { varint(field << 3 | 2) + varint(UInt64(octets.count)) + octets }
}

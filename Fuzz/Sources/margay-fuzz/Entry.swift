/// The entrance of libFuzzer: one program for all targets, because linking one for each would cost minutes. MARGAY_FUZZ names the target.
import FuzzTargets
import Glibc

private let target: FuzzTarget = {
  let word = unsafe getenv("MARGAY_FUZZ").map { unsafe String(cString: $0) } ?? ""
  guard let target = FuzzTarget(rawValue: word) else {
    stop("MARGAY_FUZZ=\(word) is no target; one of \(FuzzTarget.allCases.map(\.rawValue).joined(separator: ", "))")
  }
  return target
}()

@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  let octets = unsafe Array(UnsafeBufferPointer(start: start, count: count))
  do throws(Violation) {
    try target.check(octets)
  } catch {
    stop("\(target.rawValue): a property does not hold: \(error)")
  }
  return 0
}

private func stop(_ message: String) -> Never {
  let octets = Array("\(message)\n".utf8)
  _ = unsafe write(2, octets, octets.count)
  abort()
}

/// One verb over many objects: each gets its report; one that fails does not stop the others, a datastore that is gone does.
public import Resources

public enum WriteBatch {
  /// - Parameters:
  ///   - tell: hears each report as soon as it is there, and how many are still to come.
  public static func run<Element>(
    _ elements: [Element], key: (Element) -> ResourceKey, tell: (ObjectReport, _ remaining: Int) -> Void = { _, _ in },
    _ work: (Element) async throws -> ObjectReport
  ) async -> [ObjectReport] {
    var reports: [ObjectReport] = []
    var isGone = false
    for (index, element) in elements.enumerated() {
      var report = ObjectReport(key(element), .notTried)
      if !isGone {
        do {
          report = try await work(element)
        } catch {
          let failure = WriteFailure(error, of: key(element))
          report = ObjectReport(key(element), .failed, failure: failure)
          isGone = failure.isUnreachable
        }
      }
      tell(report, elements.count - 1 - index)
      reports.append(report)
    }
    return reports
  }
}

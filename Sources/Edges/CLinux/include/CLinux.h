#ifndef MARGAY_CLINUX_H
#define MARGAY_CLINUX_H
#endif

# Failures that the rehearsal plants, by a part of a command's line: PLANT_FAIL ends it with PLANT_CODE, PLANT_HANG keeps it for ever.
if [ -n "${PLANT_FAIL:-}" ]; then
    case "$(basename "$0") $*" in
    *$PLANT_FAIL*)
        echo "planted failure" >&2
        exit "${PLANT_CODE:-9}"
        ;;
    esac
fi
if [ -n "${PLANT_HANG:-}" ]; then
    case "$(basename "$0") $*" in
    *$PLANT_HANG*)
        echo $$ >"$PLANT_PID"
        exec sleep 1000
        ;;
    esac
fi
